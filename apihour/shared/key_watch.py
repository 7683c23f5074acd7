"""What a watch of the embedded store has told, and where it has to look again."""

from __future__ import annotations

import math
import time

from apihour.shared.backend import Change
from apihour.shared.file_store import FileStore
from apihour.shared.key_names import key_of
from apihour.shared.records import BUCKETS, RecordHead

__all__ = ["KeyWatch"]

FULL_LOOK = 10.0  # seconds; finds what a process wrote and was killed before saying so


class KeyWatch:
    """What one watch has told, and where it has to look again."""

    def __init__(self) -> None:
        # By key the revision: a hundred thousand heads would be walked at each collection.
        self._told: list[dict[bytes, int]] = [{} for _ in range(BUCKETS)]
        self._expiries = [math.inf] * BUCKETS
        self._stamps = b""
        self._full_look = 0.0

    def due(self, store: FileStore) -> list[int]:
        """The buckets in which something may have changed or expired since the last call."""
        now = time.monotonic()
        old, self._stamps = self._stamps, store.stamps()
        if now >= self._full_look:
            self._full_look = now + FULL_LOOK
            return list(range(BUCKETS))
        if old == self._stamps and now < min(self._expiries):
            return []
        return [
            bucket for bucket in range(BUCKETS)
            if old[8 * bucket:8 * bucket + 8] != self._stamps[8 * bucket:8 * bucket + 8]
            or now >= self._expiries[bucket]
        ]

    def news(self, bucket: int, heads: list[RecordHead]) -> list[bytes]:
        """The keys in one bucket, now with those heads, of which there is something to tell."""
        told = self._told[bucket]
        live = {head.key: head for head in heads if head.alive}
        self._expiries[bucket] = min(
            (head.expires / 1000 for head in live.values() if head.expires), default=math.inf
        )
        return [key for key in told if key not in live] + [
            key for key, head in live.items() if told.get(key) != head.revision
        ]

    def take(self, store: FileStore, bucket: int, key: bytes) -> Change | None:
        """The latest of one key, if it was not told yet: it may have changed since the look."""
        told = self._told[bucket]
        head = store.read(key)
        if not head.alive:
            known = told.pop(key, None) is not None
            return Change(key_of(key), None, head.revision) if known else None
        if told.get(key) == head.revision:
            return None
        value = store.value(head)
        if value is None:  # replaced just now, which stamps the bucket again
            return None
        told[key] = head.revision
        return Change(key_of(key), value, head.revision)
