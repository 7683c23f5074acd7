"""What registers raw TCP and UDP with apihour (entry points ``tcp`` and ``udp``).

Rules:

- Between them the two plugins decide what a plain callable is; a class or function whose
  shape is another protocol's (ASGI, WSGI, a request handler) is declined, never guessed.
- ``accepts`` imports nothing, calls nothing of the user's and never raises.
"""

from __future__ import annotations

from typing import Any

from apihour_tcp.datagram import UDPServer
from apihour_tcp.factories import classify
from apihour_tcp.library import LibraryServer
from apihour_tcp.server import TCPServer

__all__ = ["datagram_plugin", "plugin"]


class _TCP:
    """Stream binds: protocol classes, their factories, stream callbacks."""

    name = "tcp"
    describes = (
        "asyncio.Protocol class or factory (any with connection_made and data_received), "
        "stream callback async (reader, writer), LibraryServer"
    )

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is a stream protocol, a factory without arguments, or a callback."""
        if kind != "stream":
            return False
        return isinstance(obj, (TCPServer, LibraryServer)) or classify(obj) in (
            "stream", "factory", "callback")

    def adapt(self, obj: Any, kind: str) -> TCPServer | LibraryServer:
        """Return `obj` as a server."""
        return obj if isinstance(obj, (TCPServer, LibraryServer)) else TCPServer(obj)


class _UDP:
    """Datagram binds: protocol classes and their factories."""

    name = "udp"
    describes = "asyncio.DatagramProtocol class or factory (any with datagram_received)"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is a datagram protocol or a factory without arguments."""
        if kind != "datagram":
            return False
        return isinstance(obj, UDPServer) or classify(obj) in ("datagram", "factory")

    def adapt(self, obj: Any, kind: str) -> UDPServer:
        """Return `obj` as a UDPServer."""
        return obj if isinstance(obj, UDPServer) else UDPServer(obj)


plugin = _TCP()
datagram_plugin = _UDP()
