"""Stands in for the protocol of a connection until its first bytes have told which it is.

Rule: what has come is handed on whole, and the protocol that gets it is told of its connection
first, as if it had been there from the beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

__all__ = ["Peek"]

_MOST = 4096  # bytes that may come before somebody knows

Choose = Callable[[bytes, bool], "Callable[[], asyncio.BaseProtocol] | None"]
"""What makes the protocol of a connection by its bytes; True: nothing more comes for now."""


class Peek(asyncio.Protocol):
    """Waits for bytes that `choose` knows, at most `timeout` seconds; `refuse` hears of others.

    `over` is called when it waits no more.
    """

    def __init__(
        self, choose: Choose, timeout: float, refuse: Callable[[bytes], None],
        over: Callable[[Peek], None], conn: Any = None,
    ) -> None:
        self._choose = choose
        self._timeout = timeout
        self._refuse = refuse
        self._over = over
        self._conn = conn
        self._data = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait, but not for ever."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        if self._conn is not None:
            self._conn.state = "peek"
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout, self._look, True)

    def data_received(self, data: bytes) -> None:
        """Look whether that is enough."""
        self._data += data
        self._look(len(self._data) >= _MOST)

    def eof_received(self) -> bool:
        """Who sends no more has said all: its protocol hears of the end by itself, being asked."""
        self._look(True)
        if self._timer is not None:
            return False
        heard = getattr(self._transport.get_protocol(), "eof_received", None)
        return bool(heard()) if heard is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody has got it, and nobody will."""
        self._stop()

    def abort(self) -> None:
        """The server ends."""
        self._stop()
        self._transport.abort()

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        self._over(self)
        if timer is not None:
            timer.cancel()

    def _look(self, is_all: bool) -> None:
        if self._timer is None or self._transport.is_closing():
            return
        make = self._choose(self._data, is_all)
        if make is None:
            if is_all:
                self._stop()
                self._refuse(self._data)
                self._transport.abort()
            return
        self._stop()
        if self._conn is not None:
            self._conn.state = "open"
        protocol, data = make(), self._data
        transport, self._data = self._transport, b""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            feed(transport.get_protocol(), data)  # it may have handed it on


def feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Give bytes to a protocol as a transport would."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast(asyncio.Protocol, protocol).data_received(data)
        return
    while data:
        buffer = memoryview(protocol.get_buffer(len(data)))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
