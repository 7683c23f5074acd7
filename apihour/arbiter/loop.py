"""The arbiter's loop: what one turn polls, hears, reaps and advances.

Rules:

- It never blocks: a turn waits for a second at most, less while something has a deadline.
- A signal is obeyed within a turn; told to stop, nothing that queued up before matters.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.reports import Reports
from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.config.log import lost_lines
from apihour.errors import ApihourError
from apihour.ipc.scoreboard import Figure
from apihour.ipc.signals import STOPS

__all__ = ["BUSY", "IDLE", "BootError", "Leave", "Loop"]

IDLE = 1.0  # seconds of a turn with nothing under way
BUSY = 0.05  # seconds of a turn while something with a deadline is under way


class Leave(Exception):
    """Ends the loop: the daemon was told to stop, or another arbiter took over."""


class BootError(ApihourError):
    """The application, or the first workers of it, cannot start: the end of the start."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(eq=False, repr=False)
class Loop(ArbiterPart):
    """Turns over everything there is; `obey` carries out one signal."""

    books: Books
    keeper: WorkerKeeper
    reports: Reports
    obey: Callable[[int], None]
    _queue: SimpleQueue[int] = field(default_factory=SimpleQueue)
    _wakeup: tuple[int, int] = (-1, -1)

    # -- signals ---------------------------------------------------------------------------

    def open(self) -> int:
        """Make the descriptors that end a poll; returns the one for signals to write to."""
        self._wakeup = os.pipe()
        for fd in self._wakeup:
            os.set_blocking(fd, False)
        return self._wakeup[1]

    def shed(self) -> None:
        for fd in self._wakeup:
            os.close(fd)  # a child's wakeups are its own

    def on_signal(self, sig: int, frame: Any = None) -> None:
        """Queue a signal; the wakeup descriptor ends the poll."""
        self._queue.put_nowait(sig)

    # -- one turn --------------------------------------------------------------------------

    def turn(self) -> None:
        """Advance, poll, obey, reap, enforce. Raises BootError, and Leave after a handover."""
        books = self.books
        if books.boot_error is not None:
            raise BootError(*books.boot_error)
        books.scoreboard.set_figure(Figure.WANTED, books.num_workers)
        books.scoreboard.set_figure(Figure.LOST_LINES, lost_lines(books.log))
        for part in [] if books.stopping else list(books.parts):
            part.advance()
        if books.handed_over:
            raise Leave
        for sig in self.wait():
            self.obey(sig)
        self.reap()
        self.keeper.enforce()

    def wait(self, timeout: float | None = None) -> list[int]:
        """Poll everything once; return the signals that came meanwhile."""
        if timeout is None:
            timeout = BUSY if self._has_deadlines() else max(
                BUSY, min(IDLE, self.keeper.until_deadline()))
        watched = self._all_watched()
        poll = select.poll()
        for fd in watched:
            poll.register(fd, select.POLLIN)
        try:
            events = poll.poll(0 if not self._queue.empty() else timeout * 1000)
        except InterruptedError:
            events = []
        for fd, _ in events:
            watched[fd]()
        signals: list[int] = []
        while not self._queue.empty():
            signals.append(self._queue.get_nowait())
        return sorted(signals, key=lambda each: each not in STOPS)

    def _all_watched(self) -> dict[int, Callable[[], None]]:
        watched: dict[int, Callable[[], None]] = {}
        for worker in self.books.all_workers():
            if worker.channel_open:
                watched[worker.channel.fileno()] = partial(self.reports.hear, worker)
        for part in self.books.parts:
            watched.update(part.watched())
        return watched

    def watched(self) -> Mapping[int, Callable[[], None]]:
        return {self._wakeup[0]: self._drain_wakeup}

    def _has_deadlines(self) -> bool:
        return bool(self.books.retiring) or any(
            not worker.ready for worker in self.books.live_workers()) or any(
            part.is_busy() for part in self.books.parts)

    def _drain_wakeup(self) -> None:
        try:
            while os.read(self._wakeup[0], 4096):
                continue
        except BlockingIOError:
            return

    # -- children --------------------------------------------------------------------------

    def reap(self) -> None:
        """Collect every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid, status)

    def _reaped(self, pid: int, status: int) -> None:
        books = self.books
        if self.reports.ended(pid, status) or any(
                part.on_exit(pid, status) for part in books.parts):
            return
        if pid not in books.probes:
            books.log.debug("Reaped unknown child process (pid:%s, status:%s)", pid, status)
        books.probes.discard(pid)
