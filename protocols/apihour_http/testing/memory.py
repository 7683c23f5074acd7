"""A connection without a socket: the transport that a server's protocol writes to.

Rules:

- It is for one request: whoever sends it reads until the server closes.
- The server sees what a transport is: callbacks come in turns of their own, and reading pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["exchange"]

_PIECE = 65536  # bytes of a read, as a socket would have them


class _Transport(asyncio.Transport):
    """The server's end."""

    def __init__(self, protocol: Any, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer, "sockname": ("127.0.0.1", 80)})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._closing = False
        self.received = bytearray()
        self.done = self._loop.create_future()
        self.reads = asyncio.Event()
        self.reads.set()

    # -- what the protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self.received += data

    def write_eof(self) -> None:
        self._answered()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self.reads.set()
            self._loop.call_soon(self._lost)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        if not self._closing:
            self.reads.clear()

    def resume_reading(self) -> None:
        self.reads.set()

    def is_reading(self) -> bool:
        return self.reads.is_set() and not self._closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, _PIECE

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits here."""

    # -- the client's end

    def _answered(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _lost(self) -> None:
        self._protocol.connection_lost(None)
        self._answered()

    async def send(self, data: bytes) -> None:
        """Give the server `data`, as fast as it reads."""
        for start in range(0, len(data), _PIECE):
            await self.reads.wait()
            if self._closing:
                return
            self._protocol.data_received(data[start:start + _PIECE])
            await asyncio.sleep(0)


async def exchange(make: Callable[[], Any], peer: tuple[str, int], data: bytes) -> bytes:
    """Send `data` to a protocol that `make` makes; all it answers until it closes.

    A server that closes its side has answered: what it still reads is for nobody.
    """
    protocol = make()
    transport = _Transport(protocol, peer)
    protocol.connection_made(transport)
    sending = asyncio.ensure_future(transport.send(data))
    try:
        await transport.done
    finally:
        sending.cancel()
        transport.abort()
    return bytes(transport.received)
