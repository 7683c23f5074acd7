"""Where servers listen: addresses, sockets, bans; may import from jobs down."""
