"""A client's socket and an upstream's: two flows, and how they end.

Rules:

- Each direction ends by itself; the connection ends with the second.
- A reset is passed on as one, once what came before it is on its way: who takes the end of a
  connection for the end of the data must not be told of an end that there was not.
- The client's transport reads and writes nothing: it holds the descriptor, which is its socket's
  in the tables, and this works on a duplicate.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

from apihour_proxy.flow import Flow, Machinery
from apihour_proxy.poller import READABLE, WRITABLE
from apihour_proxy.upstreams import Upstream

__all__ = ["SocketPump"]

_LINGER = 2.0  # seconds for what was sent to arrive, before a connection ends that was broken
_LOOK = 0.02  # seconds between two looks whether it has
_RESET = struct.pack("ii", 1, 0)  # struct linger of socket(7): closing resets


class SocketPump:
    """Moves bytes between the socket of a paused `transport` and `sock`; `over` hears of the end.

    The caller closes the transport.
    """

    __slots__ = ("_back", "_client", "_looks", "_loop", "_over", "_poller", "_sock", "_there",
                 "_timer", "_upstream")

    def __init__(
        self, shared: Machinery, transport: asyncio.Transport, sock: socket.socket,
        upstream: Upstream, over: Callable[[], None],
    ) -> None:
        view = transport.get_extra_info("socket")
        # O_NONBLOCK is the description's, which both descriptors have in common.
        self._client = socket.socket(
            view.family, socket.SOCK_STREAM, 0, fileno=os.dup(view.fileno()))
        self._loop = shared.loop
        self._poller = shared.poller
        self._sock = sock
        self._upstream = upstream
        self._over: Any = over
        self._there = Flow(shared, self._client, sock, self, upstream, "sent")
        self._back = Flow(shared, sock, self._client, self, upstream, "received")
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0

    def begin(self, first: bytes) -> None:
        """Go; `first` is what the client has sent already. Raises OSError."""
        poller = self._poller
        poller.enter(self._client.fileno(), self._client_ready)
        poller.enter(self._sock.fileno(), self._upstream_ready)
        if first:
            self._there.send(memoryview(first))

    def _client_ready(self, events: int) -> None:
        if self._back.waits and events & WRITABLE:
            self._back.writable()
        if events & READABLE:
            self._there.readable(events)

    def _upstream_ready(self, events: int) -> None:
        if self._there.waits and events & WRITABLE:
            self._there.writable()
        if events & READABLE:
            self._back.readable(events)

    @property
    def moved(self) -> int:
        """Bytes, in both directions."""
        return self._there.moved + self._back.moved

    # -- what the flows say

    def close_if_over(self) -> bool:
        """A flow is over, or discards no more; whether that was the last."""
        there, back = self._there, self._back
        if not (there.is_over and back.is_over):
            return False
        if not there.discards and not back.discards:
            self.close()
            return True
        if self._timer is None:
            # Closing with bytes unread resets, and could cost the client its last answer.
            self._timer = self._loop.call_later(_LINGER, self.close)
        return False

    def source_broke(self, flow: Flow) -> None:
        """The source of `flow` was reset."""
        other = self._back if flow is self._there else self._there
        if other.is_cut:
            flow.finish()  # it has closed with bytes unread; its answer is whole
            return
        self._there.end()
        self._back.end()
        self._reset(flow.sink)

    def _reset(self, sink: socket.socket) -> None:
        self._looks += 1
        if self._looks * _LOOK < _LINGER and _is_sending(sink):
            self._timer = self._loop.call_later(_LOOK, self._reset, sink)
            return
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """End both flows and close the upstream's socket, at once."""
        over, self._over = self._over, None
        if over is None:
            return
        self._there.end()
        self._back.end()
        if self._timer is not None:
            self._timer.cancel()
        self._poller.leave(self._client.fileno())
        self._poller.forget(self._sock.fileno())
        self._client.close()
        self._sock.close()
        self._upstream.connections -= 1
        over()


def _is_sending(sock: socket.socket) -> bool:
    """Whether its peer has not everything yet (tcp(7), unix(7))."""
    try:
        return ioctl(sock.fileno(), TIOCOUTQ, bytes(4)) != bytes(4)
    except OSError:  # the system does not say
        return False
