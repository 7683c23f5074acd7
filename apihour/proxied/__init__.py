"""Binds behind a proxy that speaks the PROXY protocol; imported where one is.

May import from bind down.
"""
