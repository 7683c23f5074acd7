"""Binary upgrade: another arbiter takes over the sockets; may import from books down."""
