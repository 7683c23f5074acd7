"""How long to wait between two tries to reach what is down."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

_FIRST, _LAST = 0.1, 5.0  # seconds; a server that restarts is back within a few


class Backoff:
    """Longer and longer, up to 5 s; up to a half less, at random: workers do not try as one."""

    def __init__(self) -> None:
        self.tries = 0

    def failed(self) -> float:
        """One more try failed; seconds until the next."""
        longest = min(_LAST, _FIRST * 2.0 ** min(self.tries, 16))
        self.tries += 1
        return longest * (0.5 + random.random() / 2)

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self.tries = 0
