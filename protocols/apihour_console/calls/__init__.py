"""One line typed at the shell: its words checked, its rows filtered, its exit status.

May import from keys down.
"""
