"""Ports for tests that must name one before it is bound."""

from __future__ import annotations

import random
import socket

_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


def free_port() -> int:
    """A port that was free a moment ago; none that a bind to port 0 or a client gets meanwhile."""
    with open(_RANGE) as file:
        given = int(file.read().split()[0])
    while True:
        with socket.socket() as sock:
            port = random.randrange(given // 2, given)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
