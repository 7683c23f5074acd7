"""One session: a line read, a command run, its rows printed, its audit entry.

May import from fleet down.
"""
