"""A connection's socket beside its transport, for bytes that sendfile(2) puts there.

Rules:

- Only where the transport writes to the socket as it is: no TLS, no test without sockets.
- It is a duplicate of the descriptor: asyncio's loop and uvloop's refuse to watch one that a
  transport has (uvloop has no ``loop.sendfile`` either).
- What the transport holds must have left before: the two know nothing of each other.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

__all__ = ["Outgoing", "can_send"]


def can_send(lane: Any) -> bool:
    """Whether bytes may go to the socket of `lane` beside its transport."""
    transport = lane.transport
    return (
        transport is not None and transport.get_extra_info("socket") is not None
        and transport.get_extra_info("sslcontext") is None)


class Outgoing:
    """The duplicate; use it by ``with``."""

    __slots__ = ("_lane", "fd")

    def __init__(self, lane: Any) -> None:
        self._lane = lane
        self.fd = -1

    def __enter__(self) -> Outgoing:
        self.fd = os.dup(self._lane.transport.get_extra_info("socket").fileno())
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    async def wait_writable(self) -> None:
        """Return when it takes more; a client that takes nothing for too long is cut off."""
        lane = self._lane
        room: asyncio.Future[None] = lane.loop.create_future()
        lane.loop.add_writer(self.fd, _settle, room)
        clock = lane.loop.call_later(lane.service.options.write_timeout, lane.abort)
        try:
            await room  # cancelled where the connection is lost
        finally:
            clock.cancel()
            lane.loop.remove_writer(self.fd)


def _settle(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
