"""The processes behind ``container.run_cpu()``, imported where it is used.

May import from ops down.
"""
