"""Frees what is dead in the embedded store, in small pieces between the writes of a process.

Rules:

- A bucket is looked through once, and what is dead in it then forgotten a few at a time, in a
  hundredth of the time; in a fifth while most of the store is in use and there is something dead.
- A dead entry is kept for a while: to write its key again is one rename, to make and to forget
  it are a dozen calls. While most of the store is in use that while is short.
- It is never shorter than any rename(2) takes: whoever saw the key absent, before it came and
  went, may be within one, on his way to a bucket that has just got another floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from apihour.shared.file_store import FileStore
from apihour.shared.records import BUCKETS, RecordHead

__all__ = ["Sweeper", "sweep_all"]

FEW = 20  # entries forgotten at a stretch: 0.3 ms
GRACE = 30_000  # milliseconds a dead entry is kept
PRESSED = 1_000  # the same while most is in use
MOST = 0.75  # of the bytes that the store may have
CALM, BUSY = 99, 4  # times as long as a piece took until the next


class Sweeper:
    """Sweeps for one process; begins at `bucket`, of which each has another."""

    def __init__(self, bucket: int) -> None:
        self._bucket = bucket
        self._dead: list[RecordHead] = []
        self._next = 0.0

    def sweep_sometimes(self, store: FileStore, limit: int) -> None:
        """Free a few, if it is time; `limit` are the bytes that the store may have."""
        now = time.monotonic()
        if now < self._next:
            return
        pressed = store.used() > MOST * limit
        if not self._dead:
            self._bucket = (self._bucket + 1) % BUCKETS
            self._dead = store.dead(self._bucket, PRESSED if pressed else GRACE)
        freed, self._dead = self._dead[:FEW], self._dead[FEW:]
        if freed:
            store.forget(self._bucket, freed)
        done = time.monotonic()
        self._next = done + (done - now) * (BUSY if freed and pressed else CALM)


def sweep_all(store: Callable[[], FileStore]) -> Iterator[None]:
    """Free all that is dead, at each turn no more than a loop may be held up for."""
    for bucket in range(BUCKETS):
        dead = store().dead(bucket, PRESSED)
        yield
        for start in range(0, len(dead), FEW):
            store().forget(bucket, dead[start:start + FEW])
            yield
