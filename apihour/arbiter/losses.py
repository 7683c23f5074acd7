"""What it means when a worker dies, or leaves otherwise than it was told to.

Rule: one that dies by itself is replaced; one that fails before the first start is through ends
the start.
"""

from __future__ import annotations

import os
import signal
import time

from apihour.arbiter.keep import BACKOFF, WorkerKeeper
from apihour.books.books import Books
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.scoreboard import Figure
from apihour.worker.process import BOOT_FAILED

__all__ = ["Losses", "describe"]

_HEALTHY = 5.0  # seconds of life after which a death counts as the first again


class Losses:
    """Tells of them, and when a slot is filled again."""

    def __init__(self, books: Books, keeper: WorkerKeeper) -> None:
        self.books = books
        self._keeper = keeper

    def tell_of_end(self, worker: WorkerRecord, status: int) -> None:
        """One that was to leave has ended otherwise."""
        log = self.books.log
        if not worker.ready and os.waitstatus_to_exitcode(status) == BOOT_FAILED:
            # Another was faster to say why none of them starts.
            log.info("Worker %s (pid: %s) did not start either", worker.name, worker.pid)
        else:
            log.warning("Worker %s (pid: %s) ended while it retired: %s", worker.name, worker.pid,
                        describe(status))

    def lost(self, worker: WorkerRecord, status: int) -> None:
        """A worker nobody asked to leave has ended."""
        books, reload = self.books, self.books.reload
        message, detail = worker.failure or (
            f"worker {worker.name} ended before it was ready ({describe(status)})", "")
        if reload is not None and worker.generation == reload.generation:
            if not worker.ready:
                reload.on_worker_lost(worker, message, detail)
                return
            reload.on_worker_lost(
                worker, f"new worker {worker.name} ended ({describe(status)})", "")
        if not worker.ready and not books.came_up and not self._was_killed(worker, status):
            # Whichever of the first workers fails, and when, it is the start that has failed.
            books.boot_error = (message, detail)
            return
        books.scoreboard.count_figure(Figure.RESTARTS)
        delay = self.put_off(worker)
        if worker.ready:
            books.log.error("Worker %s (pid: %s) ended: %s; replacing it", worker.name,
                            worker.pid, describe(status))
            return
        books.log.error("Worker %s (pid: %s) could not start: %s; next try in %.1f s",
                        worker.name, worker.pid, message, delay)
        if detail and books.cfg.debug:
            books.log.error("%s", detail)

    def _was_killed(self, worker: WorkerRecord, status: int) -> bool:
        """Whether it says nothing of the code: killed from outside while another serves."""
        return worker.failure is None and os.WIFSIGNALED(status) and any(
            each.ready for each in self.books.live_workers())

    def put_off(self, worker: WorkerRecord) -> float:
        """Let its slot wait, after the first time; returns the seconds."""
        slot = self._keeper.slot(worker.slot)
        now = time.monotonic()
        healthy = worker.ready and now - worker.spawned > _HEALTHY
        slot.failures = 1 if healthy else slot.failures + 1
        # The first death of a worker that served is replaced at once.
        step = slot.failures - 1 if worker.ready else slot.failures
        delay = BACKOFF[min(step, len(BACKOFF) - 1)]
        slot.not_before = now + delay
        return delay


def describe(status: int) -> str:
    """A wait status for people: ``killed by SIGKILL``, ``exit status 3``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"
