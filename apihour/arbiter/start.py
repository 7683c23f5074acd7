"""The start: learn the binds, open every socket, make the runtime directory; then signals.

Rule: a start that fails leaves nothing bound and nothing half-written.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apihour.arbiter.loop import Loop
from apihour.arbiter.presence import Presence
from apihour.bind.binds import Binds
from apihour.bind.sockets import log_binds, open_binds, open_extras
from apihour.books.books import Books
from apihour.errors import ApihourError
from apihour.ipc import prctl
from apihour.ipc.signals import ORDERS, STOPS, blocked, let_through
from apihour.template.templates import Templates
from apihour.upgrade.upgrade import Inheritance
from apihour.version import __version__

__all__ = ["Start", "with_detail"]


@dataclass(eq=False, repr=False)
class Start:
    """One arbiter's start; `init_signals` installs gunicorn's handlers."""

    books: Books
    loop: Loop
    templates: Templates
    presence: Presence
    inheritance: Inheritance | None
    init_signals: Callable[[], None]

    def run(self) -> None:
        """Raises ApihourError with one line, or SystemExit when told to stop meanwhile."""
        books = self.books
        books.pid = os.getpid()
        wakeup = self.loop.open()
        signal.signal(signal.SIGTERM, _give_up)
        for sig in ORDERS:
            signal.signal(sig, self.loop.on_signal)  # obeyed once there is something to order
        let_through(ORDERS)
        books.log.info("Starting apihour %s", __version__)
        for note in books.app.configuration.notes:
            books.log.info("%s", note)
        named: Mapping[str, list[Any]] = {}
        if "LISTEN_PID" in os.environ:
            from apihour.bind.inherited import (
                systemd_sockets,  # read where systemd passed some only
            )

            named = systemd_sockets(os.environ, books.pid)
        books.systemd = bool(named) or bool(self.inheritance and self.inheritance.systemd)
        if sys.platform == "linux":
            prctl.preload()
        self._open(self._learn_binds(), named)
        self.presence.begin(self.inheritance.runtime if self.inheritance else None)
        books.hooks.call(books.cfg, "on_starting")
        self.init_signals()
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        log_binds(books.log, [], books.all_listeners())
        books.log.info("Workers: %s, arbiter pid %d", books.cfg.worker_count, books.pid)
        books.service.tell_status("apihour is starting its workers")
        books.hooks.call(books.cfg, "when_ready")

    def _learn_binds(self) -> Binds:
        """Import the application in a child, and ask it."""
        probe = None
        try:
            with blocked(STOPS):  # what a handler raises in a fork's own hooks is swallowed
                probe = self.templates.start_probe()
            report = probe.wait(self.books.cfg.boot_timeout)
        except BaseException:
            if probe is not None:
                probe.kill()
            raise
        if not self.templates.settle(self.books.generation, probe):
            self._reap(probe.pid)
        probe.close()
        if report.error:
            raise with_detail(report.error, report.detail)
        binds: Binds = self.books.app.configuration.resolve(report.binds)
        return binds

    def _reap(self, pid: int) -> None:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            return
        finally:
            self.books.probes.discard(pid)

    def _open(self, binds: Binds, named: Mapping[str, list[Any]]) -> None:
        """Open what is asked for; what was inherited and is not asked for is closed."""
        books = self.books
        inherited = self.inheritance.listeners() if self.inheritance else []
        books.listeners = open_binds(
            binds, books.cfg, books.wanted_slots(books.cfg), inherited, named)
        named_extras = {x.name[1:]: x for x in inherited if x.name.startswith("@")}
        books.extras = open_extras(books.cfg, named_extras)
        for listener in inherited:
            if listener not in books.all_listeners():
                listener.close()

    def undo(self) -> None:
        """Leave nothing bound or half-written after a failed start."""
        for listener in self.books.all_listeners():
            listener.close()
            if self.inheritance is None:
                listener.unlink()
        self.presence.undo(self.inheritance is not None)
        self.templates.end()


def with_detail(message: str, detail: str) -> ApihourError:
    """An error of one line, with the traceback behind it."""
    error = ApihourError(message)
    error.detail = detail
    return error


def _give_up(sig: int, frame: Any) -> None:
    """Told to stop before there is anything to stop."""
    sys.exit(0)
