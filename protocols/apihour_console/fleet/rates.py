"""Counters become rates: what ``top`` shows per second, from one look to the next.

Rules: no clock and no I/O; a counter that shrank belongs to somebody new and counts from 0.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Rates"]


class Rates:
    """Remembers the last look at a set of counters."""

    def __init__(self) -> None:
        self.at = float("-inf")
        self._before: dict[tuple[str, ...], float] = {}
        self._rates: dict[tuple[str, ...], float] = {}

    def look(self, now: float, counters: Mapping[tuple[str, ...], float]) -> None:
        """Take all counters at `now` (seconds); a look too soon after the last is left out."""
        passed = now - self.at
        if passed < 0.2:
            return
        self._rates = {
            key: (value - before if value >= before else value) / passed
            for key, value in counters.items()
            if (before := self._before.get(key)) is not None
        }
        self._before = dict(counters)
        self.at = now

    def rate(self, *key: str) -> float:
        """How much a counter grew per second between the last two looks; 0 if unknown.

        Fewer parts than a counter's key name the sum of all that begin so.
        """
        return sum(rate for one, rate in self._rates.items() if one[: len(key)] == key)
