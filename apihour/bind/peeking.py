"""Looking at a connection's first bytes before there is a transport: they stay where they are."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

__all__ = ["HANDSHAKE", "first_byte", "readable"]

HANDSHAKE = 0x16  # what a TLS connection begins with (RFC 8446 5.1)


async def first_byte(loop: asyncio.AbstractEventLoop, sock: Any, timeout: float) -> int | None:
    """The first byte that comes within `timeout` seconds, None when none does. Raises OSError."""
    view = socket.socket(sock.family, socket.SOCK_STREAM, fileno=sock.fileno())
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    seen = view.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                    return seen[0] if seen else None
                except (BlockingIOError, InterruptedError):
                    await readable(loop, view.fileno())
    except TimeoutError:
        return None
    finally:
        view.detach()


async def readable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Return when there is something to read."""
    ready = loop.create_future()
    loop.add_reader(descriptor, _tell, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
