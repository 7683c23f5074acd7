"""What is done about a worker that does not come up in time, or whose loop stands still.

Rule: it is killed only after its stack was logged, or it was said why there is none.
"""

from __future__ import annotations

import os
import signal

from apihour.blame import blame_frames
from apihour.books.books import Books
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.scoreboard import Figure, WorkerState
from apihour.ipc.stack_dump import dump_frames, dump_stack, where

__all__ = ["Stuck"]

_OWN_WORDS = 2.0  # seconds past the boot timeout in which a worker that turns tells why itself
_SILENT = 1.0  # seconds without a heartbeat after which it will not
_UNDO_TIME = 5.0  # seconds a worker that could not start has for its cleanup


class Stuck:
    """Takes the next step against one worker."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def act(self, worker: WorkerRecord, now: float) -> None:
        """The step that is due at `now`, of the monotonic clock, if any still is."""
        if worker.ready:
            self._check_heartbeat(worker, now)
        elif worker.failure is not None:
            self._end_undo(worker, now)
        elif (now - worker.spawned - worker.cfg.boot_timeout > _OWN_WORDS
                or now - worker.row.heartbeat > _SILENT):
            self._end_boot(worker)

    def _end_boot(self, worker: WorkerRecord) -> None:
        stack = dump_stack(self.books.runtime, worker.pid)
        what = f"{worker.under_way} was not done" if worker.under_way else (
            f"worker {worker.name} was not ready")
        message = f"{what} within {worker.cfg.boot_timeout:g} s (--boot-timeout)"
        self.books.log.error("Worker %s (pid: %s): %s, killing it:\n%s", worker.name,
                               worker.pid, message, stack)
        place = blame_frames(dump_frames(stack))
        worker.failure = f"{message}: {place}" if place else message, stack
        os.kill(worker.pid, signal.SIGKILL)

    def _end_undo(self, worker: WorkerRecord, now: float) -> None:
        """One that said why it will not serve must not hang in its cleanup."""
        if not worker.kill_at:
            worker.kill_at = now + _UNDO_TIME
        elif now >= worker.kill_at:
            worker.kill_at = now + _UNDO_TIME
            self.books.log.error(
                "Worker %s (pid: %s) has not cleaned up %g s after its failed start, killing it:"
                "\n%s", worker.name, worker.pid, _UNDO_TIME,
                dump_stack(self.books.runtime, worker.pid))
            os.kill(worker.pid, signal.SIGKILL)

    def _check_heartbeat(self, worker: WorkerRecord, now: float) -> None:
        timeout = worker.cfg.timeout
        silent = now - worker.row.heartbeat
        if worker.aborted_at:
            # Told to go, it goes: an endpoint that caught the abort must not keep it.
            os.kill(worker.pid, signal.SIGKILL)
            return
        if not timeout or worker.row.state == WorkerState.EXITING:
            return
        if silent <= timeout / 2:
            worker.stack_logged = False
            return
        log = self.books.log
        if not worker.stack_logged:
            worker.stack_logged = True
            worker.row.blocks += 1
            stack = dump_stack(self.books.runtime, worker.pid)
            log.warning("Worker %s (pid: %s) is blocked for %.1f s%s:\n%s", worker.name, worker.pid,
                        silent, where(stack), stack)
        if silent <= timeout:
            return
        worker.aborted_at = now
        log.critical("WORKER TIMEOUT: %s (pid: %s) is blocked for %.1f s (--timeout %g)",
                     worker.name, worker.pid, silent, timeout)
        self.books.scoreboard.count_figure(Figure.TIMEOUTS)
        os.kill(worker.pid, signal.SIGABRT)
