"""``container.limits``: rates that all workers have together, of one daemon or of many.

Rules:

- A bucket of tokens for each key is in ``container.shared``, filled by the clock. A worker takes
  some of them ahead, the more the busier the key is there, and spends them without asking anybody.
- All workers together never spend more than the bucket had. What one has ahead and does not need
  it gives back within a second.
- While the store is away each worker goes on with a bucket of its own: too much is let through
  then, nothing is held up.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from apihour.errors import SharedBusyError, SharedDownError, SharedError
from apihour.shared.backend import SharedBackend

__all__ = ["SharedLimit", "SharedLimits"]

PREFIX = "apihour.limits/"
"""What the keys of buckets in ``container.shared`` begin with."""
_SHARE = 8  # a worker has at most this part of a full bucket ahead
_IDLE = 1.0  # seconds after which what is ahead is given back
_REFUSED = 1.0  # seconds, at most, for which a refusal is repeated without asking
_SKEW = 10.0  # seconds that clocks of hosts may differ
_KEYS = 10_000  # that a worker knows at the same time


@dataclass(slots=True)
class _Ahead:
    """What this worker has of one bucket."""

    tokens: int = 0
    share: int = 1  # to be taken at the next time
    used: float = 0.0
    refused_until: float = 0.0
    asking: asyncio.Future[None] | None = None


@dataclass
class _Bucket:
    """The contents of a bucket at one moment, and how it is filled."""

    rate: float  # tokens a second
    burst: float
    tokens: float = 0.0
    stamp: float = 0.0

    def read(self, value: bytes | None, now: float) -> None:
        """Take over what the store has, as it is `now`. A value that is none is a full bucket."""
        try:
            tokens, stamp = map(float, (value or b"").split())
        except ValueError:
            tokens, stamp = self.burst, now
        # Clocks of hosts differ: time that has been counted once does not come again. One that is
        # far ahead would stop the bucket for as long as it is.
        if stamp > now + _SKEW:
            stamp = now
        self.stamp = max(now, stamp)
        self.tokens = min(self.burst, max(0.0, tokens) + (self.stamp - stamp) * self.rate)

    def take(self, wanted: int) -> int:
        """Whole tokens, at most so many; below zero: put back."""
        taken = min(wanted, int(self.tokens))
        self.tokens = min(self.burst, self.tokens - taken)
        return taken

    def write(self) -> bytes:
        return b"%.6f %.6f" % (self.tokens, self.stamp)


@dataclass
class SharedLimit:
    """`rate` of something every `per` seconds, `burst` at once, for each key by itself."""

    name: str
    rate: float
    per: float
    burst: int
    _shared: SharedBackend
    _clock: Callable[[], float] = time.time
    _ahead: dict[str, _Ahead] = field(default_factory=dict)
    _alone: dict[str, bytes] = field(default_factory=dict)  # buckets while the store is away
    _sweeping: asyncio.Task[None] | None = None

    async def take(self, key: str = "") -> bool:
        """Whether one more is allowed now. Raises SharedError for a key that cannot be one."""
        now = time.monotonic()
        ahead = self._ahead.get(key)
        if ahead is None:
            ahead = self._know(key)
        while not ahead.tokens:
            if now < ahead.refused_until:
                return False
            if ahead.asking is None:
                ahead.asking = asyncio.ensure_future(self._ask(key, ahead))
            await asyncio.shield(ahead.asking)
            now = time.monotonic()
        ahead.tokens -= 1
        ahead.used = now
        return True

    def _know(self, key: str) -> _Ahead:
        if len(self._ahead) >= _KEYS:  # of the oldest nothing is given back: too little, not much
            self._ahead.pop(next(iter(self._ahead)))
        ahead = self._ahead[key] = _Ahead(used=time.monotonic())
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.ensure_future(self._sweep())
        return ahead

    async def _ask(self, key: str, ahead: _Ahead) -> None:
        try:
            taken, wait = await self._change(key, ahead.share)
        finally:
            ahead.asking = None
        ahead.tokens += taken
        if not taken:
            ahead.refused_until = time.monotonic() + min(wait, _REFUSED)
            ahead.share = 1
        else:
            ahead.share = min(2 * ahead.share, max(1, self.burst // _SHARE))

    async def _change(self, key: str, wanted: int) -> tuple[int, float]:
        """Take tokens of the bucket; how many, and the seconds until there is another."""
        bucket = _Bucket(self.rate / self.per, self.burst)
        taken = 0

        def change(value: bytes | None) -> bytes:
            nonlocal taken
            bucket.read(value, self._clock())
            taken = bucket.take(wanted)
            return bucket.write()

        try:
            await self._shared.update(
                f"{PREFIX}{self.name}/{key}", change, max(1.0, self.burst / bucket.rate))
        except SharedBusyError:
            return 0, _REFUSED / 10  # very many want it
        except SharedDownError:
            if len(self._alone) >= _KEYS:
                self._alone.clear()
            self._alone[key] = change(self._alone.get(key))
        else:
            self._alone.pop(key, None)
        return taken, max(0.0, 1 - bucket.tokens) / bucket.rate

    async def _sweep(self) -> None:
        """Give back what is not needed, until nothing is ahead any more."""
        while self._ahead:
            await asyncio.sleep(_IDLE / 2)
            now = time.monotonic()
            idle = [key for key, ahead in self._ahead.items()
                    if now - ahead.used > _IDLE and now > ahead.refused_until
                    and ahead.asking is None]
            await self._give_back(idle)

    async def _give_back(self, keys: list[str]) -> None:
        for key in keys:
            ahead = self._ahead.pop(key, None)
            if ahead is not None and ahead.tokens:
                try:
                    await self._change(key, -ahead.tokens)
                except SharedError:
                    return  # too little is allowed, for as long as the bucket takes to fill

    async def close(self) -> None:
        """Give everything back."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self._give_back(list(self._ahead))


class SharedLimits:
    """The limits of one container, by name."""

    def __init__(self, shared: SharedBackend) -> None:
        self._shared = shared
        self._limits: dict[str, SharedLimit] = {}

    def __call__(
        self, name: str, rate: float, per: float = 1.0, burst: int | None = None
    ) -> SharedLimit:
        """The limit of that name: `rate` every `per` seconds, `burst` at once (as `rate`).

        The same again for the same name. Raises ValueError for what is no rate.
        """
        if not (_is_in(rate, 1e12) and _is_in(per, 86400) and _is_in(burst or 1, math.inf)
                and 1 <= (most := int(rate) if burst is None else burst) <= 1_000_000):
            raise ValueError(
                f"limit {name!r}: rate {rate!r} per {per!r} s, burst {burst!r}; expected a rate "
                "above 0, at most a day, and a burst of 1 to 1,000,000")
        limit = self._limits.get(name)
        if limit is None:
            limit = self._limits[name] = SharedLimit(name, rate, per, most, self._shared)
        elif (limit.rate, limit.per, limit.burst) != (rate, per, most):
            raise ValueError(f"limit {name!r}: {rate!r} per {per!r} s; expected as before, "
                             f"{limit.rate!r} per {limit.per!r} s, burst {limit.burst}")
        return limit

    async def close(self) -> None:
        """Give back what this worker has ahead."""
        for limit in self._limits.values():
            await limit.close()


def _is_in(number: object, most: float) -> bool:
    """Whether that is a number above 0, at most `most`."""
    return (isinstance(number, int | float) and not isinstance(number, bool)
            and 0 < number <= most)
