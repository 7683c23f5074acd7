"""The arbiter: gunicorn's, put together here from its parts, with gunicorn's names.

Rules:

- It never blocks: every turn of its loop polls, reaps, enforces deadlines, advances the
  reload; a signal is obeyed within a turn.
- It imports no application code and runs none.
- Its state is in its books; no part of it knows it.

Overridden methods of gunicorn's arbiter and why stand in docs/gunicorn.rst.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from gunicorn.arbiter import Arbiter

from apihour import doors
from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.loop import BUSY, BootError, Leave, Loop
from apihour.arbiter.presence import Presence
from apihour.arbiter.reports import Reports
from apihour.arbiter.shutdown import Shutdown
from apihour.arbiter.start import Start
from apihour.books.books import INHERITED, Books
from apihour.books.children import Children
from apihour.books.server_hooks import Hooks
from apihour.ipc.private import set_process_title
from apihour.worker.process import HostWorker

if TYPE_CHECKING:
    from apihour.arbiter.openers import Openers
    from apihour.orders.requesters import ControlRequest
    from apihour.upgrade.inheritance import Inheritance

__all__ = ["HostArbiter"]

DOORS = ("apihour.app", "apihour.arbiter", "apihour.bind", "apihour.blame", "apihour.config",
         "apihour.excerpt", "apihour.ipc", "apihour.jobs", "apihour.limits", "apihour.mistakes",
         "apihour.orders", "apihour.reload", "apihour.template", "apihour.upgrade",
         "apihour.worker")
"""Rooms of which a part is loaded on use, here or in a worker."""

_MOST_FAILURES = 20  # turns in a row that fail before the arbiter gives up


def _of_books(name: str) -> Any:
    """One of gunicorn's names, kept in the books."""
    return property(lambda self: getattr(self.books, name),
                    lambda self, value: setattr(self.books, name, value))


class HostArbiter(Arbiter):  # type: ignore[misc]
    """Binds every socket, forks, restarts, reloads."""

    app = _of_books("app")
    cfg = _of_books("cfg")
    log = _of_books("log")
    pid = _of_books("pid")
    proc_name = _of_books("proc_name")
    systemd = _of_books("systemd")
    worker_age = _of_books("worker_age")
    num_workers = _of_books("num_workers")
    WORKERS = _of_books("workers")
    LISTENERS = _of_books("listeners")

    def __init__(self, app: Any) -> None:
        doors.keep(DOORS)
        self.books = books = Books(Hooks(self))
        super().__init__(app)
        books.ring.attach(self.log.error_log)
        self.children = Children(books)
        self.keeper = WorkerKeeper(books, self.children)
        self.consoles = ConsoleKeeper(books)
        self.presence = Presence(books, self._on_request)
        reports = Reports(
            books, self.children, self.keeper, self.consoles.manage, self._announce)
        self.loop = Loop(books, self.keeper, reports, self._obey)
        books.parts = [self.loop, self.keeper, self.presence, self.consoles]
        self.inheritance = self._inherit()
        books.note_release(app.working_directory())
        if os.environ.get("NOTIFY_SOCKET"):
            self.openers.find_service(self.inheritance is not None)
        self._open_asked()
        self._start = Start(books, self.loop, self.presence, self.init_signals,
                            self.openers.templates if self.cfg.template else None)
        self._shutdown = Shutdown(
            books, self.loop, self.children, self.keeper, self.consoles, self.presence)

    # -- doors -----------------------------------------------------------------------------

    def _inherit(self) -> Inheritance | None:
        facts = os.environ.pop(INHERITED, None)
        if not facts:
            return None
        from apihour.upgrade.inheritance import Inheritance

        inheritance = Inheritance(json.loads(facts), self.books, self._take_over)
        self.books.parts.append(inheritance)
        return inheritance

    def _open_asked(self) -> None:
        cfg = self.cfg
        has_range = cfg.worker_count.minimum != cfg.worker_count.maximum
        if has_range or cfg.max_requests or cfg.max_age or cfg.max_rss:
            self.openers.open_asked()

    @functools.cached_property
    def openers(self) -> Openers:
        """What most daemons never open."""
        from apihour.arbiter.openers import Openers

        return Openers(
            self.books, self.children, self.keeper, self.consoles, self.setup, self.signal)

    def _on_request(self, request: ControlRequest) -> None:
        self.openers.commands.dispatch(request)

    def setup(self, app: Any) -> None:
        """Take over a configuration; the worker count of operator and load stays."""
        before = self.num_workers
        super().setup(app)
        self.worker_class = HostWorker
        if before is not None:
            self.num_workers = before
            self.num_workers = self.books.wanted_workers(app.cfg)

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Learn the binds, open every socket, make the runtime directory; then signals."""
        self._start.run()

    def run(self) -> None:
        """Start, then turn until told to stop; leaves by SystemExit."""
        try:
            self.start()
        except SystemExit:  # told to stop: no failure
            self._start.undo()
            raise
        except BaseException as error:
            self._fail(error)
            self._start.undo()
            raise
        self._turns()

    def _turns(self) -> None:
        set_process_title(f"arbiter [{self.proc_name}]")
        failures = 0
        while True:
            try:
                self.loop.turn()
                failures = 0
            except (Leave, KeyboardInterrupt):
                self.halt()
            except BootError as error:
                self.halt(str(error), 1, error.detail)
            except Exception:
                # The workers serve on whatever happened here; only a fault that stays ends us.
                failures += 1
                self.log.exception("Unhandled exception in the arbiter's loop")
                if failures >= _MOST_FAILURES:
                    self.halt("the arbiter's loop keeps failing", 1)
                time.sleep(BUSY)

    def _fail(self, error: BaseException) -> None:
        """Tell why it ends: the arbiter before, and a log of its own.

        The command says it on stderr only.
        """
        if self.inheritance is not None:
            self.inheritance.fail(str(error), getattr(error, "detail", ""))
        if self.cfg.errorlog != "-":
            self.log.error("%s", error)

    def _announce(self) -> None:
        self.books.tell_service("READY=1", f"MAINPID={self.pid}", "STATUS=apihour serves")

    def _take_over(self) -> None:
        self.presence.take_over()
        self._announce()

    def halt(
        self, reason: str | None = None, exit_status: int = 0, detail: str = ""
    ) -> None:
        """Stop everything and leave with `exit_status`."""
        error = BootError(reason, detail) if exit_status and reason else None
        if error is not None:
            self._fail(error)
        self.stop()
        self.log.info("Shutting down: arbiter")
        self.presence.unlink_pidfile()
        self.cfg.on_exit(self)
        if error is not None:
            raise error
        sys.exit(exit_status)

    def stop(self, graceful: bool = True) -> None:
        """Retire all workers, wait for them to their deadline, leave nothing behind."""
        if not self.books.stopping:  # else it is done, or being done further up
            self.books.stopping = True
            self._shutdown.run(graceful)

    # -- gunicorn's names for what the parts do ----------------------------------------------

    def signal(self, sig: int, frame: Any = None) -> None:
        """Queue a signal; the wakeup descriptor ends the poll."""
        self.loop.on_signal(sig, frame)

    def _obey(self, sig: int) -> None:
        name = self.SIG_NAMES.get(sig)
        handler = getattr(self, f"handle_{name}", None)
        if handler is not None:
            level = self.log.debug if sig == signal.SIGCHLD else self.log.info
            level("Handling signal: %s", name)
            handler()

    def handle_term(self) -> None:
        """Leave gracefully."""
        raise Leave

    def handle_int(self) -> None:
        """Leave at once."""
        self.stop(False)
        raise Leave

    handle_quit = handle_int

    def reload(self) -> None:
        """Begin a reload; during one, remember to do another."""
        self.openers.changes.request_reload(None)

    handle_hup = reload

    def reexec(self) -> None:
        """SIGUSR2: start a new arbiter on the same sockets."""
        error = self.openers.changes.request_upgrade(None)
        if error:
            self.log.error("Upgrade refused: %s", error)

    def handle_ttin(self) -> None:
        """One worker more, kept across reloads."""
        self.books.scale(self.num_workers + 1)

    def handle_ttou(self) -> None:
        """One worker fewer, never none."""
        if self.num_workers > 1:
            self.books.scale(self.num_workers - 1)

    def handle_usr1(self) -> None:
        """Reopen the log files, here, in every worker and in the consoles."""
        self.log.reopen_files()
        for worker in self.books.all_workers():
            self.children.send(worker, signal.SIGUSR1)
        self.consoles.signal(signal.SIGUSR1)

    def handle_winch(self) -> None:
        """As a daemon: retire all workers, keep the arbiter (gunicorn's signal handling)."""
        if not self.cfg.daemon:
            self.log.debug("SIGWINCH ignored. Not daemonized")
            return
        self.log.info("Graceful stop of workers")
        self.num_workers = 0

    def handle_chld(self) -> None:
        """A child ended; every turn reaps."""

    handle_cld = handle_chld
