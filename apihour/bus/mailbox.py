"""A subscription: what waits for it, how much of that there may be, and the loop over it.

Rules:

- Whoever delivers never waits. What does not fit is dropped, and the place where it is missing
  is marked, once, with how many.
- A subscription that nobody iterates over any more (a loop that was left by ``break``) ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from apihour.bus.messages import BusMessage, Gap
from apihour.errors import BusError

__all__ = ["Carrier", "Entered", "Mailbox", "Subscription"]

BYTES = 16_000_000  # of data that may wait for one subscriber
_QUIET = 10.0  # seconds between two warnings about one subscription
_SAID = 1024  # messages dropped without looking at the clock: dropping is the cheapest that is done
_STRETCH = 128  # messages taken without letting others run

Item = TypeVar("Item")


class Carrier(Protocol):
    """What a subscription asks of the bus that it is of."""

    async def begin(self, mailbox: Mailbox) -> None:
        """Have messages delivered; returns when all know of it. Raises BusError.

        One that was cancelled is begun again.
        """

    async def end(self, mailbox: Mailbox) -> None:
        """Have no more delivered; returns when the last one is. It may not have begun."""

    def drop(self, mailbox: Mailbox) -> None:
        """Have no more delivered, at once. It may not have begun."""


class Mailbox:
    """What waits for one subscription."""

    def __init__(self, pattern: str, queue: str, limit: int) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise BusError(f"pattern {pattern!r}: limit {limit!r}; expected 1 message or more")
        self.pattern = pattern
        self.queue = queue
        self.limit = limit
        self.missed = 0
        self.task: asyncio.Task[Any] | None = None
        """Who iterates over it."""
        self.handle: Any = None
        """What the engine needs to know of it."""
        self._waiting: deque[BusMessage | Gap] = deque()
        self._bytes = 0
        self._dropped = 0  # after the last message that waits
        self._waiter: asyncio.Future[None] | None = None
        self._has_ended = False
        self._next_warning = 0.0

    def deliver(self, message: BusMessage) -> None:
        """Add a message, or note that it is missing."""
        if self._has_ended:
            return
        if len(self._waiting) >= self.limit or self._bytes > BYTES:
            if not self._dropped % _SAID:
                self._warn("is too slow: what does not fit is dropped")
            self._dropped += 1
            self.missed += 1
            return
        if self._dropped:
            self._waiting.append(Gap(self.pattern, self._dropped))
            self._dropped = 0
        self._waiting.append(message)
        self._bytes += len(message.data)
        if self._waiter is not None:
            self._wake()

    def deliver_gap(self, missed: int | None, why: str) -> None:
        """Note that messages never came here."""
        if self._has_ended:
            return
        self._warn(why)
        if missed is not None:
            self.missed += missed
            self._dropped += missed
        elif not self._waiting or self._waiting[-1] != Gap(self.pattern, None):
            self._waiting.append(Gap(self.pattern, None))
        self._wake()

    def end(self) -> None:
        """Nothing more comes; what waits is still there."""
        self._has_ended = True
        self._wake()

    async def take(self) -> BusMessage | Gap | None:
        """The next one; None at the end."""
        while True:
            if self._waiting:
                item = self._waiting.popleft()
                if type(item) is BusMessage:
                    self._bytes -= len(item.data)
                return item
            if self._dropped:
                missed, self._dropped = self._dropped, 0
                return Gap(self.pattern, missed)
            if self._has_ended:
                return None
            self.task = asyncio.current_task()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _warn(self, why: str) -> None:
        if (now := time.monotonic()) >= self._next_warning:
            self._next_warning = now + _QUIET
            logging.getLogger("gunicorn.error").warning(
                "bus: the subscription to %r %s", self.pattern, why)


class Entered:
    """``async with``: it has begun inside, and is closed behind."""

    async def _begin(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """End it."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class Subscription(Entered, Generic[Item]):
    """What ``subscribe()`` returns: iterate over it; enter it, to know that it has begun."""

    def __init__(self, carrier: Carrier, mailbox: Mailbox, gaps: bool) -> None:
        self._carrier = carrier
        self._mailbox = mailbox
        self._gaps = gaps
        self._state = "new"
        self._stretch = 0

    @property
    def pattern(self) -> str:
        """What it subscribes to."""
        return self._mailbox.pattern

    @property
    def missed(self) -> int:
        """How many messages it has lost so far, as far as that is known."""
        return self._mailbox.missed

    def __aiter__(self) -> Subscription[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._state == "new":
            await self._begin()
        self._stretch += 1
        if self._stretch >= _STRETCH:
            self._stretch = 0
            await asyncio.sleep(0)
        while True:
            item = await self._mailbox.take()
            if item is None:
                raise StopAsyncIteration
            if self._gaps or type(item) is not Gap:
                return item  # type: ignore[return-value]

    async def _begin(self) -> None:
        if self._state == "new":
            self._mailbox.task = asyncio.current_task()
            await self._carrier.begin(self._mailbox)  # refused or cancelled, it is begun once more
            if self._state == "new":
                self._state = "open"
            else:  # it was closed meanwhile
                await self._carrier.end(self._mailbox)

    async def close(self) -> None:
        """End it. What has arrived, or is on its way, can still be iterated over."""
        if self._state != "ended":
            self._state = "ended"
            await self._carrier.end(self._mailbox)

    def __del__(self) -> None:
        if self._state != "ended":
            self._carrier.drop(self._mailbox)
