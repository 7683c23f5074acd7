"""Every option: where it comes from, what it may be, and what is in force.

May import from tls down.
"""
