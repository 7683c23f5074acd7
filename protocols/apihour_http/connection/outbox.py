"""Pipelined answers that leave in one write.

Rule: answers are held while every turn of the loop adds to them; a turn that begins no
request sends them, so a slow endpoint holds back nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Outbox"]

# Bytes of answers held for one write: what fills a transport's buffer, too.
_MOST = 65536


class Outbox:
    """The answers that one connection holds; it writes here from now on."""

    __slots__ = ("_flusher", "_held", "_lane", "_size")

    def __init__(self, lane: Any) -> None:
        self._lane = lane
        self._held: list[bytes] = []
        self._size = 0
        self._flusher: asyncio.Handle = lane.loop.call_soon(
            self._flush_unless, lane.conn.requests)

    def write(self, data: bytes) -> None:
        """Hold `data`, or write all of it when that is enough."""
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST:
            self._lane.flush()

    def _flush_unless(self, requests: int) -> None:
        """Flush, unless another request has begun since the last turn of the loop."""
        lane = self._lane
        begun = lane.conn.requests
        if begun != requests and lane.answers.queue:
            self._flusher = lane.loop.call_soon(self._flush_unless, begun)
        else:
            lane.flush()

    def take(self) -> bytes:
        """What is held; nothing is from now on."""
        self._flusher.cancel()
        held = b"".join(self._held)
        self._held.clear()
        self._lane = None
        return held
