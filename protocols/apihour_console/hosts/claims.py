"""Who reloads the fleet now: one at a time, which the console of its first host keeps.

Rules:

- A claim ends by itself when who has it says nothing for six seconds, or when a new console of that
  host says hello: one that is killed holds nobody up.
- One that was given back is over: a letter about it that comes later takes nothing.
- Before each step it is made again: who was stopped meanwhile, and lost it, goes no further.
- A first host that does not answer is nobody's word: whoever has begun goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

__all__ = ["Claims", "Hold", "held"]

Claim = Mapping[str, Any]
"""A letter's content: ``id``, ``host`` and ``by`` (who, in words), ``seconds`` (0: given back)."""

_LASTS = 6.0  # seconds
_EVERY = 2.0  # seconds between two times that it is made again


class Claims:
    """The first host's side."""

    def __init__(self) -> None:
        self._id = self._by = self._host = self._over = ""
        self._until = 0.0

    def take(self, claim: Claim) -> str:
        """Who has it, in words; empty when it is whoever asks."""
        now, number = time.monotonic(), str(claim.get("id"))[:64]
        if now < self._until and number != self._id:
            return self._by
        if number == self._over:
            return ""
        seconds = claim.get("seconds")
        lasts = min(float(seconds), _LASTS) if isinstance(seconds, int | float) else 0.0
        self._over = "" if lasts > 0 else number
        self._id, self._by, self._until = number, str(claim.get("by"))[:200], now + lasts
        self._host = str(claim.get("host"))
        return ""

    def end_of(self, host: str) -> None:
        """That host has a new console: what the one before had begun goes no further."""
        if host == self._host:
            self._until = 0.0


class Hold:
    """The other side: the claim of one who reloads."""

    def __init__(
        self, ask: Callable[[Claim], Awaitable[str | None]], by: str, host: str) -> None:
        """`ask` brings a claim to the first host; None: it does not answer."""
        self._ask = ask
        self._claim = {"id": os.urandom(12).hex(), "by": f"{by} at host {host}", "host": host,
                       "seconds": _LASTS}

    async def renew(self) -> str | None:
        """Who else has it, in words; empty: nobody; None: the first host does not answer."""
        return await self._ask(self._claim)

    async def keep(self) -> None:
        """Make it again, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.renew()

    async def give_back(self) -> None:
        """The next one may begin."""
        await self._ask({**self._claim, "seconds": 0})


@contextlib.asynccontextmanager
async def held(hold: Hold) -> AsyncIterator[None]:
    """Keep it for the time of the block, and give it back."""
    keeping = asyncio.create_task(hold.keep())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.shield(asyncio.ensure_future(hold.give_back()))
