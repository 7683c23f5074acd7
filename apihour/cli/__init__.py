"""What one types: ``apihour run``, ``check``, ``dev`` and the rest.

May import from every room below.
"""
