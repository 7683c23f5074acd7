"""Servers and methods that one worker has for all; imported where a container names some.

May import from bind down.
"""
