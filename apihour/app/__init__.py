"""The user's class: the container, the target it is found by, its hooks.

May import from engines down.
"""
