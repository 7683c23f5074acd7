"""Who waits for a connection of a pool, in the order of asking, with one timer for all of them.

Rules:

- In a busy pool every request comes by here: a timer for each would cost more than the wait.
- Who has left, cancelled, is passed over when a connection comes, and forgotten at the next look.
- Times are of ``loop.time()``, in seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Waiters"]

_EARLY = 0.001  # seconds that a timer of uvloop may be early

T = TypeVar("T")


class Waiters(Generic[T]):
    """Futures of what is waited for; `unserved` is how many have neither got it nor left."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.unserved = 0
        self._loop = loop
        self._queue: deque[tuple[float, asyncio.Future[T]]] = deque()
        self._look_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, ends: float) -> asyncio.Future[T]:
        """Another one, to be awaited; raises TimeoutError at `ends`."""
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((ends, waiter))
        self.unserved += 1
        if ends < self._look_at:
            self._arm(ends)
        return waiter

    def serve(self, what: T) -> bool:
        """Give it to who has waited longest; False when nobody waits."""
        while self._queue:
            _, waiter = self._queue.popleft()
            if not waiter.done():
                self.unserved -= 1
                waiter.set_result(what)
                return True
        return False

    def left(self, waiter: asyncio.Future[T]) -> T | None:
        """Its task waits no more: what it was given in that moment, if it was."""
        if waiter.cancel() or waiter.cancelled():
            self.unserved -= 1
            return None
        return None if waiter.exception() is not None else waiter.result()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """End the wait of those whose time is over; look again at the end of the next."""
        self._timer, self._look_at = None, math.inf
        now = self._loop.time() + _EARLY
        waiting = [each for each in self._queue if not each[1].done()]
        self._queue = deque(each for each in waiting if each[0] > now)
        for ends, waiter in waiting:
            if ends <= now:
                self.unserved -= 1
                waiter.set_exception(TimeoutError())
        if self._queue:
            self._arm(min(ends for ends, _ in self._queue))
