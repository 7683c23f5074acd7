"""What workers say, and what their ends mean.

Rules:

- What a worker said before it ended is heard before it is forgotten.
- A worker that dies by itself is replaced; one that fails before the first start is through
  ends the start.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from apihour.arbiter.keep import WorkerKeeper
from apihour.books.books import Books
from apihour.books.children import Children, describe
from apihour.books.worker_record import WorkerRecord
from apihour.ipc import faults
from apihour.ipc.scoreboard import Figure
from apihour.worker.process import BOOT_FAILED

__all__ = ["Reports"]


class Reports:
    """Hears the workers, and tells of their ends."""

    def __init__(
        self, books: Books, children: Children, keeper: WorkerKeeper,
        on_ready: Callable[[dict[str, Any]], None], on_first: Callable[[], None],
    ) -> None:
        """`on_ready` hears what each worker of the present generation has reported.

        `on_first` is called once, when the first worker serves.
        """
        self.books = books
        self._children = children
        self._keeper = keeper
        self._tell_ready = on_ready
        self._on_first = on_first

    def hear(self, worker: WorkerRecord) -> None:
        """Take in what has come over a worker's channel."""
        messages = worker.channel.receive()
        if messages is None:
            worker.channel_open = False
            return
        for message in messages:
            if message.get("event") == "ready":
                self._on_ready(worker, message)
            elif message.get("event") == "begun":
                worker.under_way = str(message.get("what"))
            elif message.get("event") == "failed":
                worker.failure = (str(message.get("message")), str(message.get("detail", "")))
            elif message.get("event") == "told":
                self.books.ring.tell(str(message.get("what")))

    def _on_ready(self, worker: WorkerRecord, message: dict[str, Any]) -> None:
        books = self.books
        worker.ready = True
        worker.report = message
        if worker.pid in books.retiring:
            self._children.send(worker, worker.told)  # it may have come too early to be heard
            return
        books.log.info("Worker %s ready (pid: %s)", worker.name, worker.pid)
        ready = [each for each in books.live_workers() if each.ready]
        books.came_up = books.came_up or len(ready) >= books.num_workers
        if not books.ever_ready:
            books.ever_ready = True
            self._on_first()
        if worker.generation == books.generation:
            self._tell_ready(message)

    def ended(self, pid: int, status: int) -> bool:
        """A child has ended; returns whether it was a worker."""
        books = self.books
        if pid in books.retiring:
            self._left(books.retiring.pop(pid), status)
        elif pid in books.workers:
            self._lost(books.workers.pop(pid), status)
        else:
            return False
        return True

    def _left(self, worker: WorkerRecord, status: int) -> None:
        """A worker that was told to leave has ended, by itself or not."""
        log, told = self.books.log, os.WIFSIGNALED(status) and os.WTERMSIG(status) == worker.told
        if status == 0 or told:  # told before it could hear: nothing was to be drained
            log.info("Worker %s retired (pid: %s)", worker.name, worker.pid)
        elif not worker.ready and os.waitstatus_to_exitcode(status) == BOOT_FAILED:
            # Another was faster to say why none of them starts.
            log.info("Worker %s (pid: %s) did not start either", worker.name, worker.pid)
        else:
            log.warning("Worker %s (pid: %s) ended while it retired: %s", worker.name, worker.pid,
                        describe(status))
        self._forget(worker)

    def _forget(self, worker: WorkerRecord) -> None:
        if worker.channel_open:
            self.hear(worker)
        worker.channel.close()
        worker.channel_open = False
        worker.row.clear()
        runtime = self.books.runtime
        for path in (runtime.agent_socket(worker.pid), faults.stack_path(runtime, worker.pid)):
            if os.path.lexists(path):
                os.unlink(path)
        self.books.hooks.attempt(self.books.log, worker.cfg, "child_exit", worker)

    def _lost(self, worker: WorkerRecord, status: int) -> None:
        """A worker nobody asked to leave has ended."""
        self._forget(worker)
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
        delay = self._keeper.on_lost(worker)
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
