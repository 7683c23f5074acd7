"""Connects one client's connection to an upstream, and to another one when that fails.

Rules:

- Nothing of the client's is sent before a connection stands, so any try may be followed by another.
- Each upstream is tried once before one is tried again, and then after a moment.
- Success and failure are told to the upstreams: whoever is down is found by those who connect.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from apihour_proxy.poller import WRITABLE, Poller
from apihour_proxy.upstreams import Upstream, Upstreams

__all__ = ["Dial", "is_ours", "open_socket"]

_PAUSE = 0.2  # seconds before those are tried again that have all failed: one may be restarting
_UNDER_WAY = {errno.EINPROGRESS, errno.EINTR}
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}


class Dial:
    """Calls `done` with a connected socket and its upstream, or `failed` with what went wrong.

    A try takes `timeout` seconds at most; after the first there are up to `retries`.
    """

    __slots__ = ("_done", "_failed", "_loop", "_poller", "_retries", "_socket", "_timeout",
                 "_timer", "_tried", "_upstream", "_upstreams", "retried")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, poller: Poller, upstreams: Upstreams,
        timeout: float, retries: int, done: Callable[[socket.socket, Upstream], None],
        failed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._poller = poller
        self._upstreams = upstreams
        self._timeout = timeout
        self._retries = retries
        self._done: Any = done
        self._failed: Any = failed
        self._tried: list[Upstream] = []
        self._socket: socket.socket | None = None
        self._upstream: Upstream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.retried = 0

    def begin(self) -> None:
        """Try the best upstream."""
        self._timer = None
        upstream = self._upstream = self._upstreams.choose(self._tried)
        if upstream is None:
            self._exhausted()
            return
        self._tried.append(upstream)
        upstream.connections += 1
        try:
            sock = self._socket = open_socket(upstream)
            error = sock.connect_ex(upstream.address)
        except OSError as failure:  # no descriptor left, or no path of a unix socket
            self._lost(failure.strerror or str(failure), is_ours(failure.errno))
            return
        if not error:
            self._connected()
        elif error in _UNDER_WAY:
            self._poller.enter(sock.fileno(), self._answered)
            self._timer = self._loop.call_later(
                self._timeout, self._lost, f"no answer in {self._timeout:g} s")
        else:
            self._lost(os.strerror(error), is_ours(error))

    def cancel(self) -> None:
        """The client is gone."""
        upstream = self._upstream
        if upstream is not None:
            self._drop()
            upstream.connections -= 1
        elif self._timer is not None:
            self._timer.cancel()
        self._done = self._failed = None

    def _answered(self, events: int) -> None:
        sock = self._socket
        assert sock is not None
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._lost(os.strerror(error))
        elif events & WRITABLE:
            self._poller.leave(sock.fileno())
            self._connected()

    def _connected(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock, upstream, done = self._socket, self._upstream, self._done
        assert sock is not None and upstream is not None
        self._socket = self._upstream = self._done = self._failed = None
        upstream.accepted += 1
        self._upstreams.succeeded(upstream)
        done(sock, upstream)

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock, self._socket, self._upstream = self._socket, None, None
        if sock is not None:
            self._poller.forget(sock.fileno())
            sock.close()

    def _lost(self, why: str, ours: bool = False) -> None:
        """This try has failed; `ours`: for what is lacking here."""
        upstream = self._upstream
        assert upstream is not None
        self._drop()
        upstream.connections -= 1
        if not ours:
            upstream.failed += 1
            self._upstreams.failed(upstream, why)
        if self.retried >= self._retries:
            self._fail(f"{upstream.name}: {why}")
            return
        self.retried += 1
        if all(one in self._tried for one in self._upstreams):
            self._tried.clear()
            self._timer = self._loop.call_later(_PAUSE, self.begin)
        else:
            self.begin()

    def _exhausted(self) -> None:
        """There is no upstream at all, for now."""
        if self.retried >= self._retries:
            self._fail("no upstream is known")
            return
        self.retried += 1
        self._tried.clear()
        self._timer = self._loop.call_later(_PAUSE, self.begin)

    def _fail(self, why: str) -> None:
        failed, self._done, self._failed = self._failed, None, None
        failed(why)


def is_ours(error: int | None) -> bool:
    """Whether an error says nothing of the upstream: descriptors, memory or ports are lacking."""
    return error in _OURS


def open_socket(upstream: Upstream) -> socket.socket:
    """A socket for a connection to `upstream`. Raises OSError."""
    sock = socket.socket(upstream.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    if upstream.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock
