"""What a terminal shows: tables, pages, line editing; knows no command.

Imports nothing of the other rooms.
"""
