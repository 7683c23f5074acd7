"""apihour: a multi-protocol service host."""
