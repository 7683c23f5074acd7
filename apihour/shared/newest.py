"""The newest revision of each key that this process has seen, so that it never reads an older one.

A server that was cut off from the others, and does not know it yet, answers with what it had.
"""

from __future__ import annotations

import time
from collections import OrderedDict

__all__ = ["Newest"]

_MOST = 10_000  # keys; of more than these the ones that were not seen for longest are forgotten
_NOTHING = 30.0  # seconds until a key that was there may be gone without a trace


class Newest:
    """What was seen, by key; bounded."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def see(self, key: str, revision: int) -> bool:
        """Whether `revision` (0: there is nothing, not even a removal) is not older than the last.

        It is the newest from now on, if so.
        """
        known, at = self._seen.get(key, (0, 0.0))
        if revision < known and (revision or time.monotonic() < at + _NOTHING):
            return False
        if revision:
            self._seen[key] = revision, time.monotonic()
            self._seen.move_to_end(key)
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)
        return True
