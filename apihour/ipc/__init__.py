"""What processes say to each other, and how they find one another; imports the contract only."""
