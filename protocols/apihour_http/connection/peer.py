"""Whether the peer of a connection is a proxy that is believed; asked once in its life."""

from __future__ import annotations

import socket
from typing import Any

from apihour_http.forwarded.origin import Forwarding

__all__ = ["is_believed"]


def is_believed(lane: Any, forwarding: Forwarding) -> bool:
    """Whether what the peer of `lane` says of its clients counts.

    A peer without an address is one of a unix socket, or is gone; who is gone is not believed.
    """
    peer = lane.remote()
    if peer is None:
        family = getattr(lane.conn, "family", None)
        if family is None and lane.transport is not None:
            family = getattr(lane.transport.get_extra_info("socket"), "family", None)
        if family != socket.AF_UNIX:
            return False
    return forwarding.believes(peer)
