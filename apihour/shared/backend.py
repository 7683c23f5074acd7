"""What a store behind ``container.shared`` offers, and the loops that one can inherit.

The precise meaning is in ``tests/contracts/shared_contract.py``, which a backend's author
(NATS KV, Redis) runs against his own class.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from apihour.errors import ConfigurationError, RevisionError, SharedBusyError, SharedError
from apihour.shared.leases import Leases

__all__ = [
    "VALUE_LIMIT", "Attempts", "Change", "CompareAndSet", "Entry", "SharedBackend",
    "SharedCache", "SharedStatistics", "Update", "check_cache", "check_cached", "check_deadline",
    "check_key", "check_ttl", "check_value",
]

KEY_LIMIT = 240  # bytes: a key is a file name, which ends at 255
VALUE_LIMIT = 1_000_000  # bytes: copying more would stall the loop for a millisecond
CACHE_LIMIT = 1 << 30  # bytes of a cache, all of which are taken when it is made
CACHE_ENTRY = 22  # bytes of one of its entries, beside key and value
CACHE_NAME_LIMIT = 100  # bytes: what is left of KEY_LIMIT are its keys'

EAGER = 4  # attempts at once: a writer loses about as often as it meets another
BACKOFF = 0.00025  # seconds, doubled with each further attempt...
BACKOFF_LIMIT = 0.02  # ...up to this

Update = Callable[[bytes | None], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored value and the revision that it has."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch saw: a value, or None for a key that was deleted or has expired.

    The revision of a removal is below that of whatever the key holds later.
    """

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class SharedStatistics:
    """How full the store is, in bytes as accounted for all processes together."""

    used_bytes: int
    limit_bytes: int


class SharedBackend(Protocol):
    """What ``container.shared`` offers, whatever store is behind it.

    Every method raises SharedError when the store does not answer or refuses a value.
    """

    async def get(self, key: str) -> Entry | None:
        """The entry of `key`; None when there is none, or when it has expired."""

    async def put(
        self, key: str, value: bytes, expected_revision: int | None = None,
        ttl: float | None = None,
    ) -> int:
        """Store `value` and return its revision.

        With `expected_revision`, only if the present entry has that revision (0: only if
        there is none); otherwise RevisionError. `ttl` in seconds.
        """

    async def delete(self, key: str, expected_revision: int | None = None) -> bool:
        """Remove `key`; False when there was nothing. RevisionError as for :meth:`put`."""

    async def items(self, prefix: str = "") -> list[Entry]:
        """The entries whose keys begin with `prefix`, by key; not one moment's snapshot."""

    def watch(self, prefix: str = "") -> AsyncIterator[Change]:
        """First every present entry under `prefix`, then each change, without end.

        Changes of a key that come faster than they are taken are seen as one: the last.
        """

    async def update(self, key: str, change: Update, ttl: float | None = None) -> Entry:
        """Replace the value by ``change(value)``; called again when another writer won."""

    async def incr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """Add `by` to the number stored as decimal text (absent: 0); return the sum."""

    async def append(self, key: str, item: bytes, ttl: float | None = None) -> int:
        """Add `item` to the end of the value; return the new revision."""

    def cache(self, name: str, entries: int, size: int) -> SharedCache:
        """A cache for about `entries` values of up to `size` bytes, with their keys.

        One of a name, which is the same again for whoever asks again.
        """

    def leases(self, name: str, limit: int) -> Leases:
        """`limit` of something, for all processes of this daemon; ask once for a name in each."""

    def statistics(self) -> SharedStatistics:
        """How full the store is; refused where its engine is another program's to watch."""

    def retire(self, is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
        """The worker retires: watches that its work iterates end.

        `is_work` says whether a task is background work, for which the worker waits.
        """

    async def close(self) -> None:
        """Let go of the store; every watch ends. What was stored stays."""


class SharedCache(Protocol):
    """What is cached for all, and may be gone at any time; see :meth:`SharedBackend.cache`.

    Who reads a source, and puts what he read after another has changed the source and deleted the
    key, puts what is old: `ttl` says for how long that may be.
    """

    async def get(self, key: str) -> bytes | None:
        """The value of `key`; None when it is not there, any more or at all."""

    async def put(self, key: str, value: bytes, ttl: float) -> bool:
        """Cache `value` for `ttl` seconds, or, False, nothing, when it is too large."""

    async def delete(self, key: str) -> None:
        """From now on, and for all, `key` is not there."""


class CompareAndSet:
    """``update``, ``incr`` and ``append`` over ``get`` and ``put``, for a backend to inherit."""

    deadline = 1.0
    """Seconds that a write is tried again against other writers."""

    async def get(self, key: str) -> Entry | None:
        raise NotImplementedError

    async def put(
        self, key: str, value: bytes, expected_revision: int | None = None,
        ttl: float | None = None,
    ) -> int:
        raise NotImplementedError

    async def delete(self, key: str, expected_revision: int | None = None) -> bool:
        raise NotImplementedError

    async def update(self, key: str, change: Update, ttl: float | None = None) -> Entry:
        """See :meth:`SharedBackend.update`."""
        attempts = Attempts(key, self.deadline)
        while True:
            entry = await self.get(key)
            value = change(entry.value if entry else None)
            try:
                revision = await self.put(key, value, entry.revision if entry else 0, ttl)
            except RevisionError:
                await attempts.failed()
            else:
                return Entry(key, value, revision)

    async def incr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """See :meth:`SharedBackend.incr`. SharedError when the value is not a number."""
        def add(value: bytes | None) -> bytes:
            try:
                return b"%d" % (int(value or b"0") + by)
            except ValueError:
                raise SharedError(
                    f"shared key {key!r}: {value[:40] if value else value!r} cannot be "
                    "incremented, expected decimal digits"
                ) from None
        return int((await self.update(key, add, ttl)).value)

    async def append(self, key: str, item: bytes, ttl: float | None = None) -> int:
        """See :meth:`SharedBackend.append`."""
        return (await self.update(key, lambda value: (value or b"") + item, ttl)).revision


class Attempts:
    """How often a write was tried: at first again at once, then at random moments."""

    def __init__(self, key: str, deadline: float) -> None:
        self._key = key
        self._deadline = deadline
        self._end = time.monotonic() + deadline
        self._number = 0

    async def failed(self) -> None:
        """Wait for the next attempt. Raises SharedBusyError when the deadline has passed."""
        self._number += 1
        if time.monotonic() > self._end:
            raise SharedBusyError(
                f"shared key {self._key!r}: other writers won {self._number} times in "
                f"{self._deadline:g} s"
            )
        if self._number >= EAGER:
            longest = min(BACKOFF_LIMIT, BACKOFF * 2 ** (self._number - EAGER))
            await asyncio.sleep(random.random() * longest)


def check_deadline(deadline: object) -> None:
    """Raises ConfigurationError for what are no seconds that a call may take."""
    if (isinstance(deadline, bool) or not isinstance(deadline, int | float)
            or not 0.01 <= deadline <= 3600):
        raise ConfigurationError(
            f"shared: deadline: {deadline!r:.40}; expected 0.01 to 3600 seconds")


def check_key(key: str, prefix: bool = False, limit: int = KEY_LIMIT) -> bytes:
    """A key, or the beginning of keys, in UTF-8. Raises SharedError when it is none."""
    if not isinstance(key, str) or not (key or prefix) or not key.isprintable():
        raise SharedError(f"shared key {key!r:.250}: expected printable text")
    name = key.encode()
    if len(name) > limit:
        raise SharedError(
            f"shared key {key[:40]!r}...: {len(name)} bytes, expected at most {limit}"
        )
    return name


def check_value(key: str, value: bytes) -> None:
    """Raises SharedError when `value` cannot be stored."""
    if not isinstance(value, bytes):
        raise SharedError(f"shared key {key!r:.250}: value {value!r:.40}, expected bytes")
    if len(value) > VALUE_LIMIT:
        raise SharedError(
            f"shared key {key!r:.250}: value of {len(value)} bytes, expected at most {VALUE_LIMIT}"
        )


def check_cache(name: str, entries: int, size: int) -> int:
    """How many bytes a key of that cache may have, in any store. Raises SharedError.

    Its keys begin with ``cache/NAME/`` in some: no name may be the beginning of another's.
    """
    text = check_key(name, limit=CACHE_NAME_LIMIT)
    if b"/" in text:
        raise SharedError(f"cache {name!r}: expected a name without a slash")
    if not (type(entries) is int and type(size) is int and entries > 0 and 0 < size <= VALUE_LIMIT
            and entries * (size + CACHE_ENTRY) <= CACHE_LIMIT):
        raise SharedError(
            f"cache {name!r}: {entries!r} entries of {size!r} bytes; expected both above 0, of at "
            f"most {VALUE_LIMIT} bytes, and with {CACHE_ENTRY} more each together at most "
            f"{CACHE_LIMIT}")
    return KEY_LIMIT - len(b"cache//" + text)


def check_cached(key: str, value: bytes, ttl: float) -> None:
    """Raises SharedError for what no cache keeps, however large it is."""
    if not isinstance(value, bytes):
        check_value(key, value)
    if ttl is None:
        raise SharedError(f"shared key {key!r:.250}: no ttl, expected seconds above 0")
    check_ttl(key, ttl)


def check_ttl(key: str, ttl: float | None) -> None:
    """Raises SharedError when a value cannot hold so many seconds."""
    if ttl is not None and (not isinstance(ttl, int | float) or isinstance(ttl, bool)
                            or not 0 < ttl < 1e9):
        raise SharedError(f"shared key {key!r:.250}: ttl {ttl!r:.40}, expected seconds above 0")
