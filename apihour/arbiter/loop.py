"""The arbiter's loop: what one turn polls, hears, reaps and advances.

Rules:

- It never blocks: a turn waits for a second at most, less while something has a deadline.
- A signal is obeyed within a turn; told to stop, nothing that queued up before matters.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

from gunicorn.errors import HaltServer

from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.guard import RuntimeGuard
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.leftovers import Leftovers
from apihour.arbiter.presence import Presence
from apihour.arbiter.reports import Reports, describe
from apihour.books.books import Books
from apihour.config.log import lost_lines
from apihour.ipc.scoreboard import Figure
from apihour.ipc.signals import STOPS
from apihour.orders.restarts import Restarts
from apihour.reload.changes import Changes
from apihour.template.templates import Templates
from apihour.upgrade.upgrade import Inheritance

__all__ = ["BUSY", "IDLE", "BootError", "Loop"]

IDLE = 1.0  # seconds of a turn with nothing under way
BUSY = 0.05  # seconds of a turn while something with a deadline is under way


class BootError(HaltServer):  # type: ignore[misc]
    """The first workers cannot start: the end of the start."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message, 1)
        self.detail = detail


@dataclass(eq=False, repr=False)
class Loop:
    """Turns over everything there is; `obey` carries out one signal."""

    books: Books
    templates: Templates
    consoles: ConsoleKeeper
    keeper: WorkerKeeper
    changes: Changes
    restarts: Restarts
    reports: Reports
    presence: Presence
    guard: RuntimeGuard
    leftovers: Leftovers
    inheritance: Inheritance | None
    take_over: Callable[[], None]
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

    def close_inherited(self) -> None:
        """In a child: its wakeups are its own."""
        for fd in self._wakeup:
            os.close(fd)

    def on_signal(self, sig: int, frame: Any = None) -> None:
        """Queue a signal; the wakeup descriptor ends the poll."""
        self._queue.put_nowait(sig)

    # -- one turn --------------------------------------------------------------------------

    def turn(self) -> None:
        """Advance, poll, obey, reap, enforce. Raises BootError, and Leave after a handover."""
        self.manage()
        for sig in self.wait():
            self.obey(sig)
        self.reap()
        self.enforce()

    def manage(self) -> None:
        """Advance whatever is under way, then bring the number of workers to what is wanted."""
        books = self.books
        if books.boot_error is not None:
            raise BootError(*books.boot_error)
        self.changes.advance()
        books.scoreboard.set_figure(Figure.WANTED, books.num_workers)
        books.scoreboard.set_figure(Figure.LOST_LINES, lost_lines(books.log))
        self.keeper.keep()
        self.restarts.advance()
        self.templates.keep()
        if not books.stopping:
            self.guard.look()
            self.leftovers.look()
        if not books.stopping and self.guard.is_intact:
            self.consoles.keep_up()
        if self.inheritance is not None:
            self.inheritance.report(books, self.take_over)

    def wait(self, timeout: float | None = None) -> list[int]:
        """Poll everything once; return the signals that came meanwhile."""
        if timeout is None:
            timeout = BUSY if self._is_busy() else max(
                BUSY, min(IDLE, self.keeper.until_deadline()))
        self.books.service.give_sign()
        watched = self._watched()
        poll = select.poll()
        for fd in watched:
            poll.register(fd, select.POLLIN)
        try:
            events = poll.poll(0 if not self._queue.empty() else timeout * 1000)
        except InterruptedError:
            events = []
        for fd, _ in events:
            watched[fd]()
        if self.presence.control is not None:
            self.presence.control.flush()
        signals: list[int] = []
        while not self._queue.empty():
            signals.append(self._queue.get_nowait())
        return sorted(signals, key=lambda each: each not in STOPS)

    def _watched(self) -> dict[int, Callable[[], None]]:
        watched: dict[int, Callable[[], None]] = {self._wakeup[0]: self._drain_wakeup}
        for worker in self.books.all_workers():
            if worker.channel_open:
                watched[worker.channel.fileno()] = partial(self.reports.hear, worker)
        for fd in [*self.changes.descriptors(), *self.templates.descriptors()]:
            watched[fd] = _nothing  # advance() and keep() read them
        control = self.presence.control
        if control is not None:
            for fd in control.descriptors():
                watched[fd] = partial(control.on_readable, fd)
        return watched

    def _is_busy(self) -> bool:
        return bool(
            self.changes.are_under_way() or self.books.retiring or self.keeper.is_waiting()
            or any(not worker.ready for worker in self.books.live_workers())
        )

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
        probes = self.books.probes
        if pid in probes or self.templates.on_exit(pid):
            probes.discard(pid)
        elif not (self.changes.on_exit(pid, status) or self.consoles.on_exit(pid, describe(status))
                  or self.reports.ended(pid, status)):
            self.books.log.debug("Reaped unknown child process (pid:%s, status:%s)", pid, status)

    def enforce(self) -> None:
        """Enforce every deadline: booting, heartbeat, drain."""
        self.keeper.enforce()


def _nothing() -> None:
    return None
