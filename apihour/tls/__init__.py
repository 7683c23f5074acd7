"""TLS of stream binds: certificates, what clients get of them, handshakes and their end.

May import from bind down.
"""

__all__ = ["CIPHERS"]

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all of this kind
