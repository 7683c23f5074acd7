"""The arbiter's worker processes: forked, retired, told, ended.

Rules:

- A worker that retires leaves the books at once and is followed to its own deadline.
- However it is forked, the arbiter is its parent, and it begins in
  :func:`apihour.books.becoming.become_worker`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from apihour.bind.listeners import Listener
from apihour.books.becoming import become_worker
from apihour.books.books import Books
from apihour.books.worker_record import WorkerRecord
from apihour.config.configuration import Configuration
from apihour.ipc.channel import Channel
from apihour.ipc.signals import fork_blocked
from apihour.worker.process import BLOCKED

__all__ = ["KILL_MARGIN", "Children"]

KILL_MARGIN = 2.0  # seconds after its drain deadline until a retiring worker is killed
_RETIRE = int(signal.SIGTERM)


class Children:
    """What is done to worker processes."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.fork_elsewhere: Callable[[WorkerRecord, Channel], int] | None = None
        """Tried first, if there is one; it returns 0 when it has no such worker."""

    def spawn(
        self, slot: int, generation: int, listeners: list[Listener], cfg: Any,
        configuration: Configuration | None = None,
    ) -> WorkerRecord:
        """Fork one worker into a slot; `configuration` is what a reload has read for it.

        Raises OSError or ScoreboardFullError when there is no room for it, HookError when
        pre_fork failed.
        """
        books = self.books
        row = books.scoreboard.claim(slot, generation)
        try:
            ours, theirs = Channel.pair()
        except OSError:
            row.clear()
            raise
        books.worker_age += 1
        worker = WorkerRecord(
            age=books.worker_age, ppid=books.pid, sockets=listeners, app=books.app, cfg=cfg,
            log=books.log, slot=slot, generation=generation, row=row, channel=ours,
            configuration=configuration, spawned=time.monotonic(),
            start=books.count_start(slot, generation),
        )
        try:
            books.hooks.demand(cfg, "pre_fork", worker)
            sys.stdout.flush()
            sys.stderr.flush()
            pid = self.fork_elsewhere(worker, theirs) if self.fork_elsewhere is not None else 0
            pid = pid or self._fork(worker, theirs)
        except BaseException:
            row.clear()
            ours.close()
            raise
        finally:
            theirs.close()
        worker.pid = row.pid = pid
        books.workers[pid] = worker
        return worker

    def _fork(self, record: WorkerRecord, channel: Channel) -> int:
        """Fork with the signals blocked that the arbiter's handlers would swallow in the child.

        The worker lets them through once it has handlers of its own.
        """
        pid = fork_blocked(BLOCKED)
        if pid == 0:
            given = record.assignment(channel, self.books.scoreboard, self.books.runtime)
            become_worker(self.books, given, record.cfg, record)
        return pid

    def retire(self, worker: WorkerRecord, sig: int = _RETIRE) -> None:
        """Take a worker off the books and follow it to its own deadline."""
        if self.books.workers.pop(worker.pid, None) is None:
            return
        worker.kill_at = time.monotonic() + float(worker.cfg.graceful_timeout) + KILL_MARGIN
        worker.told = sig
        self.books.retiring[worker.pid] = worker
        self.send(worker, sig)

    def send(self, worker: WorkerRecord, sig: int) -> None:
        """Send a signal, if it lives."""
        try:
            os.kill(worker.pid, sig)
        except ProcessLookupError:
            return

    def kill_retiring(self) -> None:
        """End the retiring workers that are past their deadline."""
        now = time.monotonic()
        for worker in list(self.books.retiring.values()):
            if now >= worker.kill_at:
                self.books.log.warning("Worker %s (pid: %s) did not leave in time, killing it",
                                       worker.name, worker.pid)
                worker.kill_at = now + 1.0
                self.send(worker, signal.SIGKILL)
