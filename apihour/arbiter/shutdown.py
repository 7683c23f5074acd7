"""The end of the daemon: unready first, then every worker retired, then nothing left behind.

Rules:

- It ends: by the deadlines of drain delay and graceful timeout, or at once when told again.
- An arbiter that has handed over, or has not taken over yet, removes nothing of the other's.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.loop import BUSY, IDLE, Loop
from apihour.arbiter.presence import Presence
from apihour.books.books import Books
from apihour.books.children import KILL_MARGIN, Children
from apihour.ipc.scoreboard import Figure

__all__ = ["Shutdown"]

_NOW = {signal.SIGINT, signal.SIGQUIT}  # to leave at once


@dataclass(eq=False, repr=False)
class Shutdown:
    """One arbiter's stop."""

    books: Books
    turns: Loop
    retirer: Children
    keeper: WorkerKeeper
    consoles: ConsoleKeeper
    presence: Presence

    def run(self, graceful: bool) -> None:
        """Wait for every worker, and for the console; returns when all are gone."""
        books = self.books
        for part in books.parts:
            part.stop()
        owns = not books.handed_over and not books.taking_over
        if owns:
            books.tell_service("STOPPING=1", "STATUS=apihour stops")
        if not books.handed_over:
            books.scoreboard.set_figure(Figure.UNREADY, 1)
            if graceful and books.ever_ready:
                graceful = self._linger()
        listeners = books.all_listeners()
        books.listeners, books.extras = [], {}
        for worker in books.live_workers():
            self.retirer.retire(worker, signal.SIGTERM if graceful else signal.SIGQUIT)
        for listener in listeners:
            listener.close()
            if owns and not books.systemd:
                listener.unlink()
        self.consoles.signal(signal.SIGTERM)
        self._wait_for_workers(graceful)
        if not books.handed_over:  # else it leaves with its last session
            self._wait_for_consoles()
        self.presence.end(owns)

    def _linger(self) -> bool:
        """Load balancers see it unready first; go on serving for ``--drain-delay``.

        Returns whether to drain after it; told to leave at once, it is over at once.
        """
        until = time.monotonic() + self.books.cfg.drain_delay
        while (left := until - time.monotonic()) > 0:
            if _NOW & set(self.turns.wait(min(left, IDLE))):
                return False
            self.turns.reap()
            self.keeper.advance()
            self.keeper.enforce()
        return True

    def _wait_for_workers(self, graceful: bool) -> None:
        books = self.books
        limit = time.monotonic() + (float(books.cfg.graceful_timeout) if graceful else 0.0)
        limit += KILL_MARGIN
        while books.retiring:
            if _NOW & set(self.turns.wait(BUSY)) and graceful:
                graceful = False
                books.log.info("Quick shutdown requested")
                limit = min(limit, time.monotonic() + KILL_MARGIN)
                self._send(signal.SIGQUIT)
            self.turns.reap()
            self.retirer.kill_retiring()
            if time.monotonic() > limit:
                self._send(signal.SIGKILL)
                limit = time.monotonic() + 1.0

    def _send(self, sig: int) -> None:
        for worker in self.books.retiring.values():
            self.retirer.send(worker, sig)

    def _wait_for_consoles(self) -> None:
        limit = time.monotonic() + KILL_MARGIN
        how = signal.SIGINT  # to say goodbye, and give terminals their screen back
        while self.consoles.pids():
            self.turns.wait(BUSY)
            self.turns.reap()
            if time.monotonic() > limit:
                self.consoles.signal(how)
                how, limit = signal.SIGKILL, time.monotonic() + 1.0
