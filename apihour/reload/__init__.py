"""How one generation follows another: what changes are under way, and the way of a reload.

May import from template and upgrade down.
"""
