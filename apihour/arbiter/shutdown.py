"""The end of the daemon: unready first, then every worker retired, then nothing left behind.

Rules:

- It ends: by the deadlines of drain delay and graceful timeout, or at once when told again.
- An arbiter that has handed over, or has not taken over yet, removes nothing of the other's.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from apihour.arbiter.children import KILL_MARGIN
from apihour.ipc.scoreboard import Fleet

if TYPE_CHECKING:
    from apihour.arbiter.arbiter import HostArbiter

__all__ = ["BUSY", "IDLE", "Shutdown"]

IDLE = 1.0  # seconds of a turn with nothing under way
BUSY = 0.05  # seconds of a turn while something with a deadline is under way
_NOW = {signal.SIGINT, signal.SIGQUIT}  # to leave at once


class Shutdown:
    """One arbiter's stop."""

    def __init__(self, arbiter: HostArbiter) -> None:
        self.arbiter = arbiter
        self.handed_over = arbiter.changes.has_handed_over()

    def run(self, graceful: bool) -> None:
        """Wait for every worker, and for the console; returns when all are gone."""
        arbiter = self.arbiter
        arbiter.changes.abandon()
        arbiter.templates.end()
        if not self.handed_over:
            arbiter.scoreboard.set_fleet(Fleet.UNREADY, 1)
            if graceful and arbiter.ever_ready:
                graceful = self._linger()
        owns = not self.handed_over and arbiter.is_the_one()
        listeners = [*arbiter.LISTENERS, *arbiter.extra_listeners.values()]
        arbiter.LISTENERS = []
        arbiter.extra_listeners = {}
        for worker in list(arbiter.WORKERS.values()):
            arbiter.retire(worker, signal.SIGTERM if graceful else signal.SIGQUIT)
        for listener in listeners:
            listener.close()
            if owns and not arbiter.systemd:
                listener.unlink()
        arbiter.consoles.signal(signal.SIGTERM)
        self._wait_for_workers(graceful)
        if not self.handed_over:  # else it leaves with its last session
            self._wait_for_consoles()
        if arbiter.control is not None:
            arbiter.control.close()
        arbiter.runtime.scoreboard(arbiter.pid).unlink(missing_ok=True)
        if owns:
            arbiter.runtime.remove()

    def _linger(self) -> bool:
        """Load balancers see it unready first; go on serving for ``--drain-delay``.

        Returns whether to drain after it; told to leave at once, it is over at once.
        """
        arbiter = self.arbiter
        until = time.monotonic() + arbiter.cfg.drain_delay
        arbiter.lingering = True
        try:
            while (left := until - time.monotonic()) > 0:
                if _NOW & set(arbiter.wait_for_signals(min(left, IDLE))):
                    return False
                arbiter.reap_workers()
                arbiter.keeper.keep()
                arbiter.murder_workers()
        finally:
            arbiter.lingering = False
        return True

    def _wait_for_workers(self, graceful: bool) -> None:
        arbiter = self.arbiter
        limit = time.monotonic() + (float(arbiter.cfg.graceful_timeout) if graceful else 0.0)
        limit += KILL_MARGIN
        while arbiter.retiring:
            if _NOW & set(arbiter.wait_for_signals(BUSY)) and graceful:
                graceful = False
                arbiter.log.info("Quick shutdown requested")
                limit = min(limit, time.monotonic() + KILL_MARGIN)
                self._send(signal.SIGQUIT)
            arbiter.reap_workers()
            arbiter.kill_retiring()
            if time.monotonic() > limit:
                self._send(signal.SIGKILL)
                limit = time.monotonic() + 1.0

    def _send(self, sig: int) -> None:
        for worker in self.arbiter.retiring.values():
            self.arbiter.children.send(worker, sig)

    def _wait_for_consoles(self) -> None:
        limit = time.monotonic() + KILL_MARGIN
        while self.arbiter.consoles.pids():
            self.arbiter.wait_for_signals(BUSY)
            self.arbiter.reap_workers()
            if time.monotonic() > limit:
                self.arbiter.consoles.signal(signal.SIGKILL)
                limit = time.monotonic() + 1.0
