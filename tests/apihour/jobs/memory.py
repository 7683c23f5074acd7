"""A store in memory with a clock that tests move: leases expire when they say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from apihour.errors import RevisionError
from apihour.shared.backend import Change, CompareAndSet, Entry


class Clock:
    """Seconds since the epoch, as told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Memory(CompareAndSet):
    """What several workers share, on one clock; others have their turn before each call is done."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.revision = 0
        self.fails: Exception | None = None
        self._there: dict[str, tuple[Entry, float]] = {}

    async def get(self, key: str) -> Entry | None:
        await asyncio.sleep(0)
        return self._get(key)

    def _get(self, key: str) -> Entry | None:
        if self.fails is not None:
            raise self.fails
        entry, until = self._there.get(key, (None, 0.0))
        return entry if until > self.clock.now else None

    async def put(
        self, key: str, value: bytes, expected_revision: int | None = None,
        ttl: float | None = None,
    ) -> int:
        await asyncio.sleep(0)
        self._check(key, expected_revision)
        self.revision += 1
        until = float("inf") if ttl is None else self.clock.now + ttl
        self._there[key] = Entry(key, value, self.revision), until
        return self.revision

    async def delete(self, key: str, expected_revision: int | None = None) -> bool:
        await asyncio.sleep(0)
        self._check(key, expected_revision)
        return self._there.pop(key, None) is not None

    def _check(self, key: str, expected: int | None) -> None:
        entry = self._get(key)
        actual = entry.revision if entry else 0
        if expected is not None and expected != actual:
            raise RevisionError(key, expected, actual)

    async def items(self, prefix: str = "") -> list[Entry]:
        raise NotImplementedError

    def watch(self, prefix: str = "") -> AsyncIterator[Change]:
        raise NotImplementedError

    async def close(self) -> None:
        self._there.clear()
