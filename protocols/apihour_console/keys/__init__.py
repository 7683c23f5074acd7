"""The keys directory: host key, authorised keys, and the command that edits them.

May import from text down.
"""
