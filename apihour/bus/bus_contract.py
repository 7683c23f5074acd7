"""What a bus offers, whatever carries it: the contract of ``container.bus``.

The precise meaning is in ``tests/contracts/bus_contract.py``, which is run against each engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Protocol, overload

from apihour.bus.durable import DurableSubscription
from apihour.bus.mailbox import Subscription
from apihour.bus.messages import LIMIT, BusMessage, Gap

__all__ = ["Bus"]


class Bus(Protocol):
    """What ``container.bus`` offers. Every method raises BusError, also for what it cannot take."""

    async def publish(self, subject: str, data: bytes = b"", *, durable: bool = False) -> None:
        """Send to all that subscribe now; waits for nobody.

        With `durable` it is stored first (JetStream), and that is waited for.
        """

    @overload
    def subscribe(
        self, pattern: str, *, queue: str = "", gaps: Literal[False] = False, limit: int = LIMIT,
        durable: Literal[False] = False,
    ) -> Subscription[BusMessage]: ...

    @overload
    def subscribe(
        self, pattern: str, *, queue: str = "", gaps: Literal[True], limit: int = LIMIT,
        durable: Literal[False] = False,
    ) -> Subscription[BusMessage | Gap]: ...

    @overload
    def subscribe(
        self, pattern: str, *, queue: str, gaps: bool = False, limit: int = LIMIT,
        durable: Literal[True],
    ) -> DurableSubscription: ...

    def subscribe(
        self, pattern: str, *, queue: str = "", gaps: bool = False, limit: int = LIMIT,
        durable: bool = False,
    ) -> Any:
        """What is sent to subjects that match, from when the loop over it begins.

        Of those with the same `queue` one gets each message. `limit`: messages that may wait.
        `durable`: from where `queue` had come to in the stream, each until it is acknowledged.
        """

    async def request(
        self, subject: str, data: bytes = b"", timeout: float = 1.0) -> BusMessage:
        """The first answer. Raises NoResponderError, BusTimeoutError after `timeout` seconds."""

    async def gather(
        self, subject: str, data: bytes = b"", deadline: float = 1.0, expect: int | None = None,
    ) -> list[BusMessage]:
        """The answers that come within `deadline` seconds, or the first `expect` of them."""

    def retire(self, is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
        """The worker retires: queue groups' subscriptions end, and those that its work iterates.

        `is_work` says whether a task is background work, for which the worker waits.
        """

    async def close(self) -> None:
        """End every subscription, and let go of everything. A second time does nothing."""
