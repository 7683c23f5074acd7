"""Who lives and who goes: starts, turns, deaths, the console, the end.

May import from orders down.
"""
