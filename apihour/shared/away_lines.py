"""What the log says of an engine that goes and comes: at once, and not at each of its turns.

A cluster of NATS without a leader answers some questions and others not, ten times a second.
"""

from __future__ import annotations

import time

__all__ = ["AwayLines"]

_QUIET = 10.0  # seconds in which it is said once that it is away, and once that it is back


class AwayLines:
    """Those of one store."""

    def __init__(self) -> None:
        self.is_away = False
        self._is_told_away = False
        self._next = 0.0  # when there may be two lines again
        self._left = 0
        self._turns = 0  # that were not told

    def line(self, away: str) -> str:
        """What is to be logged now; `away` says why it is, empty when it has answered."""
        if bool(away) != self.is_away:
            self.is_away = bool(away)
            self._turns += 1
        if self.is_away == self._is_told_away:
            return ""
        now = time.monotonic()
        if now >= self._next:
            self._next, self._left = now + _QUIET, 2
        if not self._left:
            return ""
        self._left -= 1
        self._is_told_away = self.is_away
        more, self._turns = self._turns // 2, 0
        return (f"away: {away}" if away else "answers again") + (
            f"; it went and came {more} times since this was last said" if more else "")
