"""One process that serves: its loop, who accepts, connections, TLS, its end.

May import from app down.
"""
