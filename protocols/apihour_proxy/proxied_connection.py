"""One client's connection, from its arrival to its end.

Rules:

- Nothing is read before there is an upstream: what comes waits in the kernel's buffer, but for what
  the transport has read already: uvloop's begins to read behind ``connection_made``, whatever that
  says, and who told whose connection it is (a mux) hands on what it has seen.
- A plain connection is moved from socket to socket; one whose TLS ends here by its transport.
- It is over once, whoever ends it: the client, the upstream, an operator or the server.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from apihour_proxy.dial import Dial
from apihour_proxy.header import proxy_header
from apihour_proxy.pump import SocketPump
from apihour_proxy.streamed import TransportPump
from apihour_proxy.upstreams import Upstream

if TYPE_CHECKING:
    from apihour_proxy.proxying import Proxying

__all__ = ["ProxyConnection"]


class ProxyConnection(asyncio.Protocol):
    """The protocol of a client's transport; `conn` is the host's row of it, if there is a host."""

    def __init__(self, service: Proxying, conn: Any) -> None:
        self._service = service
        self._conn = conn
        self._first = b""
        self._dial: Dial | None = None
        self._pump: SocketPump | TransportPump | None = None
        self._transport: asyncio.Transport | None = None
        self.upstream = ""
        self.seen = -1
        """`moved` when it was last looked at."""

    @property
    def moved(self) -> int:
        """Bytes, in both directions."""
        return self._pump.moved if self._pump is not None else 0

    def activity(self) -> dict[str, Any]:
        """For who looks: the upstream it has."""
        return {"state": "open" if self._pump is not None else "connect", "path": self.upstream}

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find it an upstream."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        self._service.came(self)
        self._service.shared.loop.call_soon(self._begin)

    def _begin(self) -> None:
        if self._transport is None:
            return
        service = self._service
        self._transport.pause_reading()
        self._dial = Dial(service.shared.loop, service.shared.poller, service.upstreams,
                          service.connect_timeout, service.retries, self._connected, self._failed)
        self._dial.begin()

    def data_received(self, data: bytes) -> None:
        """Bytes of TLS, or those that somebody has read to tell whose they are."""
        if isinstance(self._pump, TransportPump):
            self._pump.data_received(data)
        else:
            self._first += data

    def eof_received(self) -> bool:
        """The client sends no more; it may still read."""
        if isinstance(self._pump, TransportPump):
            self._pump.eof_received()
        return not self._has_tls()

    def pause_writing(self) -> None:
        """The client does not read."""
        if isinstance(self._pump, TransportPump):
            self._pump.pause_writing()

    def resume_writing(self) -> None:
        """The client reads on."""
        if isinstance(self._pump, TransportPump):
            self._pump.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self.end()

    # -- what the upstream says

    def _connected(self, sock: socket.socket, upstream: Upstream) -> None:
        service, transport, dial = self._service, self._transport, self._dial
        assert transport is not None and dial is not None
        service.retries_made += dial.retried
        self._dial = None
        if transport.is_closing():
            sock.close()
            upstream.connections -= 1
            return
        self.upstream = upstream.name
        kind = TransportPump if self._has_tls() else SocketPump
        try:
            if service.proxy_protocol:
                sock.send(self._header())  # the buffer of a new socket is larger
            pump = kind(service.shared, transport, sock, upstream, self.end)
        except OSError as error:  # it has left at once, or there is no descriptor left
            sock.close()
            upstream.connections -= 1
            self._failed(f"{upstream.name}: {error.strerror}")
            return
        self._pump = pump
        first, self._first = self._first, b""
        try:
            pump.begin(first)
        except OSError as error:  # no memory of epoll's left
            self._failed(f"{upstream.name}: {error.strerror}")

    def _header(self) -> bytes:
        conn, transport = self._conn, self._transport
        assert transport is not None
        told = getattr(conn, "proxied", None)
        source = getattr(conn, "peer_address", None) or transport.get_extra_info("peername")
        destination = getattr(told, "destination", None) or transport.get_extra_info("sockname")
        return proxy_header(self._service.proxy_protocol, source, destination, conn)

    def _has_tls(self) -> bool:
        transport = self._transport
        return transport is not None and transport.get_extra_info("sslcontext") is not None

    def _failed(self, why: str) -> None:
        peer = getattr(self._conn, "peer", None) or "a client"
        self._service.refuse(peer, why)
        self.end()

    def end(self) -> None:
        """End it, at once."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._dial is not None:
            self._dial.cancel()
        if self._pump is not None:
            self._pump.close()
        self._service.left(self)
        if not transport.is_closing():
            transport.abort()
