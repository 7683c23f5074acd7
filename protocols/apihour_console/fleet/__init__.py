"""All workers of a daemon: who they are, how they do, and asking them.

May import from calls down.
"""
