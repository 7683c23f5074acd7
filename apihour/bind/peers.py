"""The address of a peer as people read it.

Rule: a client chooses the name of its own unix socket, so nothing of it is printed as it is.
"""

from __future__ import annotations

from typing import Any

__all__ = ["format_peer", "host_of"]


def format_peer(address: Any) -> str:
    """A peer's address for people: ``127.0.0.1:1234``, ``[::1]:1234``, ``unix`` or ``@name``."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):
        address = "@" + address.lstrip(b"\0").decode("ascii", "replace")
    # A client chooses the name of its own unix socket.
    return "".join(c if c.isprintable() else "?" for c in str(address)) if address else "unix"


def host_of(peer: str) -> str:
    """A peer without its port and brackets: ``[::1]:80`` is ``::1``, ``unix`` is itself."""
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    host, colon, port = peer.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else peer
