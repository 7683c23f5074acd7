"""What follows an upgrade, handed on with a budget per turn of the loop.

Rules:

- A large read is cut: the smallest frames of WebSocket come forty thousand to a read, and
  whoever sends them must not hold up the others.
- How much is handed on in a turn follows the time that the turns take, the handler's part of
  them included: bulk data goes fast, messages that each cost something go slowly.
- While something is left over nothing more is read, and order is kept.
- Who takes it may say how much of a frame is still to come: that is handed on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from apihour_http.connection.reading import Reading

__all__ = ["SLICE", "SMALLEST", "Taker", "feed", "go_on", "hand_on"]

# Bytes handed on at a stretch, at first and at most: 700 empty frames of a client. After a
# pause that the handler asked for: the smallest, so that a slow one is not flooded again.
SLICE = 4096
SMALLEST = 128
# Seconds that one turn may take on account of one connection.
_BUDGET = 0.002


Taker = Callable[[bytes], int | None]
"""Takes bytes, and may return how many of a frame that has begun are still to come."""


class Upgraded(Protocol):
    """A connection whose bytes are its handler's."""

    loop: asyncio.AbstractEventLoop
    transport: Any
    taker: Taker | None
    """Who takes it; None at the end."""
    sink: Taker | None
    """The same while nothing is left over."""
    reading: Reading
    tail: bytes
    """What is left over."""

    def can_take_frames(self) -> bool:
        """Whether the application keeps up, and is there."""


def hand_on(lane: Upgraded, data: bytes, reason: int) -> None:
    """Hand `data` to the lane's WebSocket, as :func:`feed` does."""
    if lane.sink is None or len(data) > SLICE:
        feed(lane, data, reason)
    else:
        lane.sink(data)


def feed(lane: Upgraded, data: bytes, reason: int, size: int = SLICE) -> None:
    """Hand `data` to the lane's WebSocket after what is left over of earlier calls.

    In slices of `size` bytes. What does not fit into this turn is kept in ``lane.tail``, and
    reading paused for `reason`.
    """
    left = memoryview(lane.tail + data)
    start = monotonic()
    take, piece = lane.taker, size
    while take is not None and left and lane.can_take_frames():
        due = take(bytes(left[:piece]))
        left = left[piece:]
        piece = max(size, due or 0)
        if size < SLICE or monotonic() - start > _BUDGET:
            break
    if lane.transport is None:
        return
    if lane.taker is None:  # it has ended: what is left is for nobody
        left = left[:0]
    lane.tail = bytes(left)
    lane.sink = None if left else lane.taker
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
