"""One process that serves: its loop, who accepts, connections, its end.

May import from app down.
"""
