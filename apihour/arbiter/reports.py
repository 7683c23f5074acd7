"""What workers say, and what their ends mean.

Rules:

- What a worker said before it ended is heard before it is forgotten.
- What it means when one dies by itself is in :mod:`apihour.arbiter.losses`, opened then.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apihour.arbiter.keep import WorkerKeeper
from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.worker_record import WorkerRecord
from apihour.ipc import faults

if TYPE_CHECKING:
    from apihour.arbiter.losses import Losses

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
            worker = books.workers.pop(pid)
            self._forget(worker)
            self._losses.lost(worker, status)
        else:
            return False
        return True

    def _left(self, worker: WorkerRecord, status: int) -> None:
        """A worker that was told to leave has ended, by itself or not."""
        told = os.WIFSIGNALED(status) and os.WTERMSIG(status) == worker.told
        if status == 0 or told:  # told before it could hear: nothing was to be drained
            self.books.log.info("Worker %s retired (pid: %s)", worker.name, worker.pid)
        else:
            self._losses.tell_of_end(worker, status)
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

    @functools.cached_property
    def _losses(self) -> Losses:
        """From the first one on."""
        from apihour.arbiter.losses import Losses

        return Losses(self.books, self._keeper)
