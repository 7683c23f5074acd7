"""What operators ask of the arbiter: how they reach it, what it does, what it owes them.

May import from reload down.
"""
