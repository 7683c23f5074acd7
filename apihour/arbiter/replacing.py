"""Workers that a fresh one follows: worn ones, and those that an operator restarts.

Rule: every replacement is ready-gated; the new worker serves before the old one retires.
"""

from __future__ import annotations

import os
import random
import time

from apihour.arbiter.keep import WorkerKeeper
from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.part import ArbiterPart
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.processes import stat_of

__all__ = ["Replacements", "resident_bytes"]

_LOOK_EVERY = 1.0  # seconds between two looks at memory, age and requests
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Replacements(ArbiterPart):
    """What is under way of this kind, by slots."""

    def __init__(self, books: Books, keeper: WorkerKeeper, crew: Children) -> None:
        self.books = books
        self._keeper = keeper
        self._crew = crew
        self._next_look = 0.0
        self._replacing: dict[int, tuple[WorkerRecord, str]] = {}

    def is_busy(self) -> bool:
        return bool(self._replacing)

    def advance(self) -> None:
        """Replace what is worn; during a reload nothing, for that replaces all."""
        if self.books.reload is None:
            self._look()
            self._finish()

    def _look(self) -> None:
        """Once a second: the wear of each worker."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        for worker in self.books.live_workers():
            if self._replacing:
                break  # one at a time: all at once would double memory and import load
            if worker.ready and (reason := self._worn(worker, now)):
                self._replace(worker, reason)

    def _worn(self, worker: WorkerRecord, now: float) -> str:
        """Why it is, if it is; each serves for so many requests, its own jitter included."""
        cfg = worker.cfg
        if cfg.max_requests and not worker.due:
            worker.due = int(cfg.max_requests) + random.randint(0, cfg.max_requests_jitter)
        if worker.due and worker.row.requests >= worker.due:
            return f"it has served {worker.row.requests:g} requests (--max-requests)"
        if cfg.max_age and now - worker.spawned > cfg.max_age:
            return f"it is {now - worker.spawned:.0f} s old (--max-age)"
        if cfg.max_rss and (rss := resident_bytes(worker.pid)) > cfg.max_rss:
            return f"it holds {rss / 2**20:.0f} MiB (--max-rss {cfg.max_rss / 2**20:.0f} MiB)"
        return ""

    def replace(self, worker: WorkerRecord, reason: str) -> WorkerRecord | None:
        """Replace a worker because an operator wants it; returns the new one, if there is one.

        A slot that is left alone for a while after failures is tried now.
        """
        under_way = self._replacing.get(worker.slot)
        if under_way is None:
            self._keeper.slot(worker.slot).not_before = 0.0
            self._replace(worker, reason)
            under_way = self._replacing.get(worker.slot)
        return under_way[0] if under_way is not None else None

    def _replace(self, worker: WorkerRecord, reason: str) -> None:
        """Start a second worker in the slot; the first retires when that one is ready."""
        books = self.books
        if time.monotonic() < self._keeper.slot(worker.slot).not_before:
            return  # the last replacement failed; this one serves on meanwhile
        books.log.info("Replacing worker %s (pid: %s): %s", worker.name, worker.pid, reason)
        if (fresh := self._keeper.spawn(worker.slot)) is not None:
            self._replacing[worker.slot] = (fresh, reason)

    def _finish(self) -> None:
        for slot, (fresh, _) in list(self._replacing.items()):
            living = self.books.live_workers()
            if fresh not in living:
                del self._replacing[slot]
            elif fresh.ready:
                del self._replacing[slot]
                for worker in living:
                    if worker.slot == slot and worker is not fresh:
                        self._crew.retire(worker)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process that is its own; 0 when it is gone.

    A table that all workers have mapped is none: it would be in the figure of a fresh one, too.
    """
    resident, shared = map(int, stat_of(pid, "statm")[1:3] or (0, 0))  # proc_pid_statm(5), pages
    return (resident - shared) * _PAGE
