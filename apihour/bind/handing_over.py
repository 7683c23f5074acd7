"""Listeners in another process: a new arbiter of an upgrade, a worker of the template.

Rule: read where there is one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener

__all__ = ["facts_of", "handed_over"]


def facts_of(listener: Listener) -> dict[str, Any]:
    """What a process that is handed the descriptor has to know, JSON-able."""
    return {"name": listener.name, "address": str(listener.address),
            "owns_path": listener.owns_path, "slot": listener.slot}


def handed_over(facts: Mapping[str, Any], fd: int) -> Listener:
    """What :func:`facts_of` said, over the descriptor that came with it."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return Listener(facts["name"], parse_address(facts["address"]), sock, facts["owns_path"],
                    facts["slot"])
