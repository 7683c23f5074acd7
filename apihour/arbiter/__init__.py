"""Who lives and who goes: starts, deaths, reloads, upgrades, the end.

May import from worker down.
"""
