"""Another way to fork workers: from a process that has imported the application.

May import from books down.
"""
