"""Where the requests of a connection are from: its peer, and the proxies that are believed.

Rules:

- Whether the peer is a proxy that is believed is asked once in the connection's life.
- What the host learned from a PROXY header (``conn.proxied``) holds where no field says otherwise.
"""

from __future__ import annotations

import socket
from typing import Any

from apihour_http.forwarded.origin import Forwarding, Origin
from apihour_http.head import Fields

__all__ = ["is_proxied", "origin_of"]


def origin_of(lane: Any, forwarding: Forwarding, fields: Fields) -> Origin | None:
    """What proxies that are believed say of the request with these fields, if anything."""
    is_proxy = lane.is_proxy
    if is_proxy is None:
        is_proxy = lane.is_proxy = _is_believed(lane, forwarding)
    told = forwarding.origin(fields) if is_proxy else None
    if not is_proxied(lane):
        return told
    source = lane.conn.peer_address
    host, port = source[:2] if isinstance(source, tuple) else (None, 0)
    scheme = "https" if lane.conn.proxied.tls else ""
    if told is None:
        return Origin(host, port, scheme, "")
    return Origin(told.remote or host, told.port or port, told.scheme or scheme, told.host)


def is_proxied(lane: Any) -> bool:
    """Whether a PROXY header named the connection's peer."""
    return getattr(lane.conn, "proxied", None) is not None


def _is_believed(lane: Any, forwarding: Forwarding) -> bool:
    """Whether what the peer of `lane` says of its clients counts.

    A peer without an address is one of a unix socket, or is gone; who is gone is not believed.
    """
    peer = lane.remote()
    if peer is None:
        sock = getattr(lane.conn, "sock", None)  # the host's, there before the transport
        if sock is None and lane.transport is not None:
            sock = lane.transport.get_extra_info("socket")
        family = getattr(sock, "family", None)
        if family != socket.AF_UNIX:
            return False
    return forwarding.believes(peer)
