"""TLS of stream binds: certificates, what clients get of them, handshakes and their end.

May import from bind down.
"""
