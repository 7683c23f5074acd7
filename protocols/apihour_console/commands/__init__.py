"""The commands that the console carries out, a module for each subject.

May import from shell down.
"""
