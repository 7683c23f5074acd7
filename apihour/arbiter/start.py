"""The start: learn the binds, open every socket, make the runtime directory; then signals.

Rule: a start that fails leaves nothing bound and nothing half-written.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apihour.arbiter.loop import BootError, Loop
from apihour.arbiter.presence import Presence
from apihour.bind.binds import Binds
from apihour.bind.sockets import log_binds, open_binds, open_extras
from apihour.books.books import Books
from apihour.books.probe import start_probe
from apihour.ipc import prctl
from apihour.ipc.signals import ORDERS, STOPS, blocked, let_through
from apihour.version import __version__

if TYPE_CHECKING:
    from apihour.template.templates import Templates

__all__ = ["Start"]


@dataclass(eq=False, repr=False)
class Start:
    """One arbiter's start; `init_signals` installs gunicorn's handlers."""

    books: Books
    loop: Loop
    presence: Presence
    init_signals: Callable[[], None]
    templates: Templates | None

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
        books.systemd = bool(named) or books.systemd
        if sys.platform == "linux":
            prctl.preload()
        self._open(self._learn_binds(), named)
        self.presence.begin()
        books.hooks.call(books.cfg, "on_starting")
        self.init_signals()
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        log_binds(books.log, [], books.all_listeners())
        books.log.info("Workers: %s, arbiter pid %d", books.cfg.worker_count, books.pid)
        books.tell_service("STATUS=apihour is starting its workers")
        books.hooks.call(books.cfg, "when_ready")

    def _learn_binds(self) -> Binds:
        """Import the application in a child, and ask it."""
        books, templates = self.books, self.templates
        probe: Any = None
        try:
            with blocked(STOPS):  # what a handler raises in a fork's own hooks is swallowed
                probe = templates.start_probe() if templates is not None else start_probe(books)
            report = probe.wait(books.cfg.boot_timeout)
        except BaseException:
            if probe is not None:
                probe.kill()
            raise
        if templates is None or not templates.settle(books.generation, probe):
            self._reap(probe.pid)
        probe.close()
        if report.error:
            raise BootError(report.error, report.detail)
        binds: Binds = books.app.configuration.resolve(report.binds)
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
        inherited = books.all_listeners()
        books.listeners = open_binds(
            binds, books.cfg, books.wanted_slots(books.cfg), inherited, named)
        books.extras = open_extras(books.cfg, books.extras)
        for listener in inherited:
            if listener not in books.all_listeners():
                listener.close()

    def undo(self) -> None:
        """Leave nothing bound or half-written after a failed start."""
        for listener in self.books.all_listeners():
            listener.close()
            if not self.books.taking_over:
                listener.unlink()
        self.presence.undo()
        for part in self.books.parts:
            part.stop()


def _give_up(sig: int, frame: Any) -> None:
    """Told to stop before there is anything to stop."""
    sys.exit(0)
