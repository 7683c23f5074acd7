"""What follows an upgrade, handed on with a budget per turn of the loop.

Rules:

- A large read is cut: the smallest frames of WebSocket come forty thousand to a read, and
  whoever sends them must not hold up the others.
- How much is handed on in a turn follows the time that the turns take, the handler's part of
  them included: bulk data goes fast, messages that each cost something go slowly.
- While something is left over nothing more is read, and order is kept.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Protocol

from apihour_http.connection.reading import Reading

__all__ = ["SLICE", "SMALLEST", "feed", "go_on"]

# Bytes handed on at a stretch, at first and at most: 700 empty frames of a client. After a
# pause that the handler asked for: the smallest, so that a slow one is not flooded again.
SLICE = 4096
SMALLEST = 128
# Seconds that one turn may take on account of one connection.
_BUDGET = 0.002


class Upgraded(Protocol):
    """A connection whose bytes are its handler's."""

    loop: asyncio.AbstractEventLoop
    transport: Any
    hosted: Any
    reading: Reading
    tail: bytes
    """What is left over."""

    def can_take_frames(self) -> bool:
        """Whether the application keeps up, and is there."""


def feed(lane: Upgraded, data: bytes, reason: int, size: int = SLICE) -> None:
    """Hand `data` to the lane's WebSocket after what is left over of earlier calls.

    In slices of `size` bytes. What does not fit into this turn is kept in ``lane.tail``, and
    reading paused for `reason`.
    """
    left = memoryview(lane.tail + data)
    start = monotonic()
    while left and lane.can_take_frames():
        lane.hosted.data_received(bytes(left[:size]))
        left = left[size:]
        if size < SLICE or monotonic() - start > _BUDGET:
            break
    if lane.transport is None:
        return
    lane.tail = bytes(left)
    if not left:
        lane.reading.resume(reason)
        return
    lane.reading.pause(reason)
    if lane.can_take_frames():
        lane.loop.call_soon(go_on, lane, reason, size, start)


def go_on(lane: Upgraded, reason: int, size: int = SLICE, since: float = 0.0) -> None:
    """Hand on what is left over, in a turn of its own; the last one began at `since`."""
    if not lane.tail or lane.transport is None:
        return
    if since:
        is_slow = monotonic() - since > 2 * _BUDGET
        size = max(SMALLEST, size // 2) if is_slow else min(SLICE, size * 2)
    feed(lane, b"", reason, size)
