"""Where servers listen: addresses, sockets, certificates, bans; may import from shared down."""
