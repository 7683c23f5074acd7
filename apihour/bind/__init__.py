"""Where servers listen: addresses, sockets, bans; may import from limits down."""
