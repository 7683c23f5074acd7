"""The heads that a process saw last, by which a look at a key is one call, and so is a write.

A head that was remembered is one that was read earlier: it may not be the key's any more, or lie
where the bucket was before it got another floor, and the rename that would replace it fails then.
A name is never given twice, so a file of that name is the head, whatever came and went meanwhile.
"""

from __future__ import annotations

from apihour.shared.records import RecordHead

__all__ = ["LastHeads"]

_HALF = 8192  # as many are remembered, at most twice as many; of 0.7 KB at most


class LastHeads:
    """By key; in two halves, of which the older is dropped when the younger is full."""

    def __init__(self) -> None:
        self._young: dict[bytes, RecordHead] = {}
        self._old: dict[bytes, RecordHead] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> RecordHead | None:
        """What was last seen of `key`, if that is remembered."""
        return self._young.get(key) or self._old.get(key)

    def saw(self, key: bytes, head: RecordHead) -> None:
        """Remember that."""
        self._young[key] = head
        if len(self._young) >= _HALF:
            self._old, self._young = self._young, {}

    def lost(self, key: bytes) -> None:
        """It is another one now."""
        self._young.pop(key, None)
        self._old.pop(key, None)
