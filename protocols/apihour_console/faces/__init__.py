"""Ways in: SSH, the local socket, HTTP for probes, a worker of one's own.

May import from commands down.
"""
