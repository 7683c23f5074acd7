"""How many workers the load asks for: arithmetic over what is measured once a second.

Rules:

- Up quickly, by one, when workers are busy or their loops lag; down slowly, by one, when one
  fewer would still leave room.
- Both are smoothed: a look is a moment, and a loop that is late three times in four is late.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.ipc.processes import stat_of
from apihour.worker.heartbeat import BEAT

__all__ = ["Autoscaler", "LoadWatch", "WorkerLoad", "cpu_seconds"]

_LOOK_EVERY = 1.0  # seconds between two looks at the load
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class WorkerLoad:
    """One worker at one look: CPU seconds used since its start, loop lag in seconds."""

    pid: int
    cpu: float
    lag: float


class Autoscaler:
    """Advises a number of workers between two bounds."""

    BUSY = 0.75  # share of a CPU per worker above which another helps
    IDLE = 0.50  # share that may remain per worker after one has left
    LAG = 0.10  # seconds of loop lag in every worker that count as busy
    UP_AFTER = 2.0  # seconds of being busy
    DOWN_AFTER = 20.0  # seconds of being idle

    def __init__(self) -> None:
        self._before: dict[int, float] = {}
        self._lags: dict[int, float] = {}
        self._share: float | None = None
        self._last = 0.0
        self._busy_since: float | None = None
        self._idle_since: float | None = None

    def advise(
        self, now: float, loads: Sequence[WorkerLoad], current: int, minimum: int, maximum: int
    ) -> int:
        """Return the number wanted now; `now` in seconds, once a second or so."""
        elapsed = now - self._last
        known = [load for load in loads if load.pid in self._before]
        used = sum(load.cpu - self._before[load.pid] for load in known)
        self._before = {load.pid: load.cpu for load in loads}
        self._lags = {load.pid: _mean(self._lags.get(load.pid), load.lag) for load in loads}
        self._last = now
        if not known or elapsed <= 0:
            return max(minimum, min(maximum, current))
        share = self._share = _mean(self._share, used / elapsed / len(known))
        lagging = min(self._lags.values()) > self.LAG
        self._busy_since = self._since(self._busy_since, now, share > self.BUSY or lagging)
        spare = current > minimum and share * current / max(1, current - 1) < self.IDLE
        self._idle_since = self._since(self._idle_since, now, spare and not lagging)
        wanted = current
        if self._busy_since is not None and now - self._busy_since >= self.UP_AFTER:
            wanted, self._busy_since = current + 1, None
        elif self._idle_since is not None and now - self._idle_since >= self.DOWN_AFTER:
            wanted, self._idle_since = current - 1, None
        if wanted != current:
            self._share = None  # of another number of workers
        return max(minimum, min(maximum, wanted))

    @staticmethod
    def _since(before: float | None, now: float, condition: bool) -> float | None:
        if not condition:
            return None
        return before if before is not None else now


def _mean(before: float | None, now: float) -> float:
    """Half of what is new, half of all that was."""
    return now if before is None else (before + now) / 2


class LoadWatch(ArbiterPart):
    """Changes the number of workers as the load asks, within a range and without an operator's."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._autoscaler = Autoscaler()
        self._next_look = 0.0

    def advance(self) -> None:
        books, now = self.books, time.monotonic()
        workers = [worker for worker in books.live_workers() if worker.ready]
        if now < self._next_look or books.reload is not None or not workers:
            return
        self._next_look = now + _LOOK_EVERY
        count = books.cfg.worker_count
        if count.minimum == count.maximum or books.operator_workers is not None:
            return
        # A loop that is late now says so only at its next beat.
        loads = [WorkerLoad(w.pid, cpu_seconds(w.pid),
                            max(w.row.lag, now - w.row.heartbeat - BEAT)) for w in workers]
        wanted = self._autoscaler.advise(
            now, loads, books.num_workers, count.minimum, count.maximum)
        if wanted != books.num_workers:
            books.log.info("Load: %d workers wanted, %d before", wanted, books.num_workers)
            books.num_workers = wanted


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used, user and system; 0.0 when it is gone."""
    return sum(map(int, stat_of(pid)[11:13])) / _TICK
