"""Keeping the workers up: their number, their health.

Rules:

- A slot whose workers keep failing is tried again later and later; the others go on.
- What is done about one that stands still is in :mod:`apihour.arbiter.stuck`, how one is replaced
  that is worn in :mod:`apihour.arbiter.replacing`; both are opened when they are needed.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.part import ArbiterPart
from apihour.books.worker_record import WorkerRecord
from apihour.errors import ApihourError
from apihour.ipc.scoreboard import WorkerState

if TYPE_CHECKING:
    from apihour.arbiter.stuck import Stuck

__all__ = ["BACKOFF", "WorkerKeeper"]

BACKOFF = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds, by failures in a row of one slot
_ABORT_TIME = 1.0  # seconds between SIGABRT and SIGKILL, as gunicorn does it


@dataclass
class _Slot:
    failures: int = 0
    not_before: float = 0.0


class WorkerKeeper(ArbiterPart):
    """What the arbiter does about its workers in every turn."""

    def __init__(self, books: Books, crew: Children) -> None:
        self.books = books
        self._crew = crew
        self._slots: dict[int, _Slot] = {}

    # -- number ----------------------------------------------------------------------------

    def advance(self) -> None:
        """Spawn what is missing, retire what is too many, replace what is worn.

        During a reload only the dead are replaced, until the first old worker retires.
        """
        books = self.books
        reload = books.reload
        if reload is not None and reload.has_replaced:
            return
        now = time.monotonic()
        own = [w for w in books.live_workers() if w.generation == books.generation]
        taken = {worker.slot for worker in own}
        for slot in range(1, books.num_workers + 1):
            if slot not in taken and now >= self.slot(slot).not_before:
                self.spawn(slot)
        if reload is not None:
            return
        for worker in own:
            if worker.slot > books.num_workers:
                self._crew.retire(worker)

    def spawn(self, slot: int) -> WorkerRecord | None:
        """Fork into a slot; out of processes or descriptors, try again later."""
        books = self.books
        try:
            return self._crew.spawn(slot, books.generation, books.listeners, books.cfg)
        except (OSError, ApihourError) as error:
            state = self.slot(slot)
            state.failures += 1
            delay = BACKOFF[min(state.failures, len(BACKOFF) - 1)]
            state.not_before = time.monotonic() + delay
            books.log.error("Worker slot %d: no new process: %s; next try in %.1f s",
                              slot, getattr(error, "strerror", None) or error, delay)
            return None

    def is_busy(self) -> bool:
        """Whether some slot waits for its next try."""
        now = time.monotonic()
        return any(slot.not_before > now for slot in self._slots.values())

    def slot(self, number: int) -> _Slot:
        return self._slots.setdefault(number, _Slot())

    def on_new_generation(self) -> None:
        """A reload is through: what failed before may work now."""
        self._slots.clear()

    # -- deadlines -------------------------------------------------------------------------

    def until_deadline(self) -> float:
        """Seconds until a worker that beats no more is past the next step against it.

        Steps are the stack at half of ``--timeout``, the abort at its end, the kill after that.
        """
        now = time.monotonic()
        return min((_next_step(worker) - now for worker in self.books.live_workers()
                    if worker.ready), default=math.inf)

    def enforce(self) -> None:
        """Boot timeout, heartbeat timeout, drain deadline."""
        now = time.monotonic()
        for worker in self.books.all_workers():
            if not worker.ready and worker.pid in self.books.retiring:
                continue
            may_recover = worker.stack_logged and not worker.aborted_at
            if may_recover or now >= _next_step(worker):
                self._stuck.act(worker, now)
        self._crew.kill_retiring()

    @functools.cached_property
    def _stuck(self) -> Stuck:
        """From the first one that is late on."""
        from apihour.arbiter.stuck import Stuck

        return Stuck(self.books)


def _next_step(worker: WorkerRecord) -> float:
    """When the next step against this worker is due, unless its heart beats; in monotonic time."""
    if worker.aborted_at:
        return worker.aborted_at + _ABORT_TIME
    if not worker.ready:
        failed = worker.failure is not None
        return worker.kill_at if failed else worker.spawned + float(worker.cfg.boot_timeout)
    if worker.row.state == WorkerState.EXITING:
        return math.inf
    timeout = worker.cfg.timeout or math.inf
    return float(worker.row.heartbeat) + (timeout if worker.stack_logged else timeout / 2)
