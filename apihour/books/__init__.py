"""What the arbiter's rooms share: its books and records, and how a child of it begins.

May import from worker down.
"""
