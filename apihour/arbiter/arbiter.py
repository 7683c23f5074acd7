"""The arbiter: gunicorn's, put together here from its parts, with gunicorn's names.

Rules:

- It never blocks: every turn of its loop polls, reaps, enforces deadlines, advances the
  reload; a signal is obeyed within a turn.
- It imports no application code and runs none.
- Its state is in its books; no part of it knows it.

Overridden methods of gunicorn's arbiter and why stand in docs/gunicorn.rst.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.guard import RuntimeGuard
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.leftovers import Leftovers
from apihour.arbiter.loop import BUSY, Loop
from apihour.arbiter.presence import Presence
from apihour.arbiter.reports import Reports
from apihour.arbiter.shutdown import Shutdown
from apihour.arbiter.start import Start, with_detail
from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.releases import Releases
from apihour.books.server_hooks import Hooks
from apihour.books.service_manager import ServiceManager
from apihour.ipc.private import set_process_title
from apihour.ipc.signals import ORDERS, STOPS, hold_off, ignore
from apihour.ops.logring import LogRing
from apihour.orders.requests import ArbiterCommands
from apihour.orders.restarts import Restarts
from apihour.reload.changes import Changes, Leave
from apihour.template.templates import Templates
from apihour.upgrade.upgrade import Inheritance
from apihour.worker.process import HostWorker

__all__ = ["HostArbiter"]

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
        self.books = Books(Hooks(self))
        super().__init__(app)
        self.ring = LogRing()
        self.ring.attach(self.log.error_log)
        self.inheritance = Inheritance.from_environment(os.environ)
        self.books.service = ServiceManager(
            self.log, os.environ, os.getpid(), self.inheritance is not None)
        self.books.releases = Releases(app.working_directory())
        if self.inheritance is not None:
            self._inherit(self.inheritance)
        self._assemble()

    def _inherit(self, inheritance: Inheritance) -> None:
        books = self.books
        books.taking_over = True
        books.generation = inheritance.generation
        books.releases = Releases(self.app.working_directory(), inheritance.releases)
        if inheritance.operator_workers:
            books.scale(inheritance.operator_workers)
        elif inheritance.workers:
            books.num_workers = inheritance.workers
            books.num_workers = books.wanted_workers(books.cfg)

    def _assemble(self) -> None:
        """Give every part the books, and the parts that it needs."""
        books = self.books
        self.templates = Templates(books, self._shed)
        self.children = Children(books, self._shed, self.templates.fork)
        self.keeper = WorkerKeeper(books, self.children)
        self.consoles = ConsoleKeeper(books)
        self.changes = Changes(
            books, self.templates, self.children, self._configure, self._follow)
        reports = Reports(books, self.children, self.keeper, self.consoles, self._announce,
                          self.ring.tell)
        restarts = Restarts(books, self.keeper, self.children)
        commands = ArbiterCommands(
            books, self.children, self.changes, restarts, self.ring, lambda sig: self.signal(sig))
        self.presence = Presence(books, commands.dispatch)
        self.loop = Loop(
            books, self.templates, self.consoles, self.keeper, self.changes, restarts, reports,
            self.presence, RuntimeGuard(books, self.presence), Leftovers(books),
            self.inheritance, self._take_over, self._obey)
        self._start = Start(books, self.loop, self.templates, self.presence,
                            self.inheritance, self.init_signals)
        self._shutdown = Shutdown(books, self.loop, self.changes, self.templates, self.children,
                                  self.keeper, self.consoles, self.presence)

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
            if self.inheritance is not None:
                self.inheritance.fail(str(error), getattr(error, "detail", ""))
            self._start.undo()
            self._log_failure(str(error))
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
            except HaltServer as inst:
                if self.inheritance is not None:
                    self.inheritance.fail(str(inst.reason), getattr(inst, "detail", ""))
                self.halt(inst.reason, inst.exit_status, getattr(inst, "detail", ""))
            except Exception:
                # The workers serve on whatever happened here; only a fault that stays ends us.
                failures += 1
                self.log.exception("Unhandled exception in the arbiter's loop")
                if failures >= _MOST_FAILURES:
                    self.halt(reason="the arbiter's loop keeps failing", exit_status=1)
                time.sleep(BUSY)

    def _log_failure(self, reason: str) -> None:
        """Why it ends, to a log of its own: the command says it on stderr only."""
        if self.cfg.errorlog != "-":
            self.log.error("%s", reason)

    def _announce(self) -> None:
        self.books.service.tell_ready("apihour serves", self.pid)

    def _take_over(self) -> None:
        self.presence.take_over()
        self._announce()

    def _configure(self) -> None:
        """Another configuration is in force: take it over, logging too."""
        self.setup(self.app)
        self.log.reopen_files()
        self.ring.detach()  # a logging configuration may have taken its place
        self.ring.attach(self.log.error_log)

    def _follow(self) -> None:
        """Another generation serves."""
        self.templates.keep_only(self.books.generation)
        self.keeper.on_new_generation()
        ready = [worker for worker in self.books.live_workers() if worker.ready]
        if ready:
            self.consoles.manage(ready[0].report)

    def _shed(self) -> None:
        """In a child: let go of what belongs to the arbiter alone."""
        self.ring.detach()
        self.ring.records.clear()
        signal.set_wakeup_fd(-1)
        hold_off([signal.SIGUSR1])  # a worker will want to know of it
        ignore(set(ORDERS) - {signal.SIGUSR1})
        for sig in (*STOPS, signal.SIGCHLD):
            signal.signal(sig, signal.SIG_DFL)
        self.loop.close_inherited()
        for worker in self.books.all_workers():
            worker.channel.close()
        if self.presence.control is not None:
            self.presence.control.close_inherited()
        if self.books.has_runtime:
            self.books.scoreboard.let_go()
        for listener in self.books.extras.values():
            listener.close()
        self.changes.shed()
        self.templates.close_inherited()
        if self.inheritance is not None:
            self.inheritance.close()

    def halt(
        self, reason: str | None = None, exit_status: int = 0, detail: str = ""
    ) -> None:
        """Stop everything and leave with `exit_status`."""
        self.stop()
        self.log.info("Shutting down: arbiter")
        self.presence.unlink_pidfile()
        self.cfg.on_exit(self)
        if exit_status and reason:
            self._log_failure(reason)
            raise with_detail(reason, detail)
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
        self.changes.request_reload(None)

    handle_hup = reload

    def reexec(self) -> None:
        """SIGUSR2: start a new arbiter on the same sockets."""
        error = self.changes.request_upgrade(None)
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
