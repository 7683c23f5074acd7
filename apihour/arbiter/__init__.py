"""Who lives and who goes: starts, deaths, reloads, what operators ask, the end.

May import from template and upgrade down.
"""
