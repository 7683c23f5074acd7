"""One connection: bytes and deadlines, heads and bodies, the order of its answers."""
