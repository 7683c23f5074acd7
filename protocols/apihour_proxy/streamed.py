"""A client's transport and an upstream's socket: for connections whose TLS ends here.

Rule: what is not a socket to read from, is read and written by asyncio; the rest is as in ``pump``.
asyncio closes both directions of TLS with the first, so does this.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from apihour_proxy.flow import Machinery
from apihour_proxy.poller import READABLE, WRITABLE
from apihour_proxy.upstreams import Upstream

__all__ = ["TransportPump"]

_AT_ONCE = 1 << 16  # bytes that are handed to the transport at once
_TURNS = 4  # reads in a row, before others have their turn


class TransportPump:
    """Moves bytes between a paused `transport` and `sock`; `over` hears of the end.

    The caller hands on what the transport says, and closes it.
    """

    __slots__ = ("_has_ended", "_is_paused", "_over", "_poller", "_rest", "_shared", "_sock",
                 "_transport", "_upstream", "moved")

    def __init__(
        self, shared: Machinery, transport: asyncio.Transport, sock: socket.socket,
        upstream: Upstream, over: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._poller = shared.poller
        self._transport = transport
        self._sock = sock
        self._upstream = upstream
        self._over: Any = over
        self._rest: memoryview | None = None
        self._has_ended = False
        self._is_paused = False
        self.moved = 0

    def begin(self, first: bytes) -> None:
        """Go; `first` is what the client has sent already."""
        self._poller.enter(self._sock.fileno(), self._ready)
        self._transport.resume_reading()
        if first:
            self.data_received(first)

    # -- what the transport says

    def data_received(self, data: bytes) -> None:
        """Send it on; read no more while that waits."""
        if self._rest is not None:
            self._rest = memoryview(bytes(self._rest) + data)
            return
        self._send(memoryview(data))
        if self._rest is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The client sends no more."""
        self._has_ended = True
        self._shut()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The client reads on."""
        self._is_paused = False
        self._poller.again(self._read)

    # -- the upstream

    def _ready(self, events: int) -> None:
        if self._rest is not None and events & WRITABLE:
            self._writable(self._rest)
        if events & READABLE:
            self._read()

    def _send(self, data: memoryview) -> None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = len(data)  # its last words are on their way, and so is its end
        self.moved += sent
        self._upstream.sent += sent
        self._rest = memoryview(bytes(data[sent:])) if sent < len(data) else None

    def _writable(self, rest: memoryview) -> None:
        self._send(rest)
        if self._rest is None:
            self._transport.resume_reading()
            self._shut()

    def _shut(self) -> None:
        if self._has_ended and self._rest is None:
            with contextlib.suppress(OSError):  # it is gone: reading finds out
                self._sock.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        shared = self._shared
        for _ in range(_TURNS):
            if self._is_paused or self._over is None:
                return
            try:
                size = self._sock.recv_into(shared.view[:_AT_ONCE])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._transport.abort()
                self.close()
                return
            if not size:
                # What is on its way to the client is sent first.
                self._transport.close()
                return
            self.moved += size
            self._upstream.received += size
            self._transport.write(bytes(shared.view[:size]))
        self._poller.again(self._read)

    def close(self) -> None:
        """Close the upstream's socket, at once."""
        over, self._over = self._over, None
        if over is None:
            return
        self._poller.forget(self._sock.fileno())
        self._sock.close()
        self._upstream.connections -= 1
        over()
