"""The slowest query of the last minutes: what of it may be shown, and how long it took."""

from __future__ import annotations

import time

from apihour.errors import one_line
from apihour.excerpt import excerpt
from apihour.masking import mask_text

__all__ = ["Slowest"]

_WINDOW = 150.0  # seconds; two of them are looked at
_SHOWN = 200  # characters of a query


class Slowest:
    """Takes every query; remembers the slowest of the last five minutes at most."""

    keeps_context = False
    """Whether it is to be told in the context of who asked."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._now = self._before = (0.0, "")

    def note(self, seconds: float, query: str, error: BaseException | None = None) -> None:
        """One query has taken that long, and ended by `error` if it did."""
        now = time.monotonic()
        if now - self._since > _WINDOW:
            self._turn(now)
        if seconds > self._now[0]:
            self._now = seconds, query

    def told(self) -> tuple[float, str]:
        """Seconds and query of the slowest, in one line without values of secret names."""
        self._turn(time.monotonic())
        seconds, query = max(self._now, self._before)
        return seconds, one_line(mask_text(excerpt(" ".join(query.split()), _SHOWN), code=True))

    def _turn(self, now: float) -> None:
        if now - self._since > _WINDOW:
            self._before = self._now if now - self._since < 2 * _WINDOW else (0.0, "")
            self._now, self._since = (0.0, ""), now
