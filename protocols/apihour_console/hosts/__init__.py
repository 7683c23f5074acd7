"""One shell over many hosts: consoles that ask one another over the bus; may import from fleet
down."""
