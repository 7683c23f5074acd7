"""Counters of one HTTP server: requests, answers by class, and a latency histogram.

Rules:

- The hot path only increments; everything else is derived when somebody asks: successes
  are what is left of all answers (a refusal is answered too, or the peer is gone).
- ``counts`` has one place more than ``bounds``: the last is for what is slower.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from time import time
from typing import TYPE_CHECKING, Any

from apihour_http.speed import compiled

__all__ = ["BOUNDS", "FAST", "Statistics"]

# Seconds; Prometheus' usual buckets, with finer ones below for answers from memory.
BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
)
# Answers faster than this (seconds) are counted without a search: nearly all are.
FAST = BOUNDS[0]

SLOW = 50  # slow requests that are remembered; older ones give way
_PATH = 200  # characters of a slow request's path that are kept


if TYPE_CHECKING or compiled is None:

    class Tally:
        """The counters that every request touches."""

        __slots__ = ("fast", "seconds")
        fast: int
        seconds: float
else:
    Tally = compiled.Tally


class Statistics(Tally):
    """What one server has done since its start."""

    __slots__ = ("classes", "counts", "refused", "slow", "timeouts")

    def __init__(self) -> None:
        self.classes = [0] * 6
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.fast = 0  # those of the first bucket that were not searched for
        self.refused = 0
        self.timeouts = 0
        self.slow: deque[dict[str, Any]] = deque(maxlen=SLOW)

    def note_slow(self, method: str, path: str, seconds: float) -> None:
        """Remember a request that took long, without its query: secrets travel there."""
        what = f"{method} {path.partition('?')[0][:_PATH]}"
        self.slow.append({"time": time() - seconds, "seconds": seconds, "what": what})

    def count(self, seconds: float) -> None:
        """Put one answer into its bucket."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1

    def answered(self, status: int, seconds: float) -> None:
        """Count one answered request; `seconds` from its arrival to its answer."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        if status >= 300:
            self.classes[status // 100] += 1

    def record(self) -> dict[str, Any]:
        """The counters, JSON-able; histogram counts are per bucket, not cumulative."""
        counts = [self.counts[0] + self.fast, *self.counts[1:]]
        answered = sum(counts)
        others = {f"{digit}xx": self.classes[digit] for digit in range(3, 6)}
        return {
            "requests": answered + self.refused,
            "responses": {"2xx": answered + self.refused - sum(others.values()), **others},
            "refused": self.refused,
            "timeouts": self.timeouts,
            "slow": list(self.slow),
            "latency": {
                "bounds": list(BOUNDS), "counts": counts, "sum": self.seconds,
            },
        }
