"""One shell over many hosts: consoles ask one another by the bus; may import from shell down."""
