"""The arbiter: gunicorn's, with what it does at reload, at stop and with sockets replaced.

Rules:

- It never blocks: every turn of its loop polls, reaps, enforces deadlines, advances the
  reload; a signal is obeyed within a turn.
- It imports no application code and runs none.
- A worker that retires leaves ``WORKERS`` at once and is followed to its own deadline.

Overridden methods of gunicorn's arbiter and why stand in docs/gunicorn.rst.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gunicorn import systemd
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.pidfile import Pidfile

from apihour.arbiter.changes import Changes, Leave
from apihour.arbiter.children import Children, describe
from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.control import Control
from apihour.arbiter.guard import RuntimeGuard
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.leftovers import Leftovers
from apihour.arbiter.priority import Priority
from apihour.arbiter.releases import Releases
from apihour.arbiter.reload import Reload
from apihour.arbiter.requests import ArbiterCommands
from apihour.arbiter.restarts import Restarts
from apihour.arbiter.shutdown import BUSY, IDLE, Shutdown
from apihour.arbiter.template import TemplateProbe, Templates
from apihour.arbiter.upgrade import Inheritance, write_pidfile
from apihour.bind.addresses import Address
from apihour.bind.listeners import Listener, systemd_sockets
from apihour.bind.sockets import discard, open_binds, open_extras
from apihour.config.files import see_pidfile
from apihour.config.log import lost_lines
from apihour.errors import ApihourError, ConfigurationError
from apihour.ipc import prctl
from apihour.ipc.bases import unusual
from apihour.ipc.private import set_process_title
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Fleet, Scoreboard
from apihour.ipc.signals import ORDERS, STOPS, hold_off, ignore, let_through
from apihour.ops.logring import LogRing
from apihour.version import __version__
from apihour.worker.process import HostWorker

__all__ = ["HostArbiter"]

_MOST_FAILURES = 20  # turns in a row that fail before the arbiter gives up
_RETIRE = int(signal.SIGTERM)


class HostArbiter(Arbiter):  # type: ignore[misc]
    """Binds every socket, forks, restarts, reloads."""

    def __init__(self, app: Any) -> None:
        self.generation = 1
        self.operator_workers: int | None = None
        self.changes = Changes(self)
        self.retiring: dict[int, HostWorker] = {}
        self.probes: set[int] = set()
        self.consoles = ConsoleKeeper(self)
        self.templates = Templates(self)
        self.stopping = False
        self.lingering = False
        self.boot_error: tuple[str, str] | None = None
        self.ever_ready = False
        self.came_up = False
        super().__init__(app)
        self.priority = Priority(self.log)
        self.WORKERS: dict[int, HostWorker] = {}
        self.LISTENERS: list[Listener] = []
        self.extra_listeners: dict[str, Listener] = {}
        self.children = Children(self)
        self.keeper = WorkerKeeper(self)
        self.guard = RuntimeGuard(self)
        self.leftovers = Leftovers(self)
        self.restarts = Restarts(self)
        self.commands = ArbiterCommands(self)
        self.ring = LogRing()
        self.ring.attach(self.log.error_log)
        self.inheritance = Inheritance.from_environment(os.environ)
        earlier = self.inheritance.releases if self.inheritance else ()
        self.releases = Releases(app.working_directory(), earlier)
        if self.inheritance is not None:
            self.generation = self.inheritance.generation
            if self.inheritance.operator_workers:
                self.scale(self.inheritance.operator_workers)
            elif self.inheritance.workers:
                self.num_workers = self.inheritance.workers
                self.num_workers = self.wanted_workers(self.cfg)

    # -- configuration ---------------------------------------------------------------------

    def read_config(self) -> Any:
        """Read the configuration anew and return it; the current one stays in force.

        Raises ApihourError with one line when it cannot be read.
        """
        before = self.app.cfg
        self.app.reload()
        fresh, self.app.cfg = self.app.cfg, before
        fresh.env_orig = before.env_orig  # not what `before` has put there
        return fresh

    def app_binds(self, declared: dict[str, list[str]] | None) -> dict[str, list[Address]]:
        binds: dict[str, list[Address]] = self.app.resolve(declared)
        return binds

    def wanted_workers(self, cfg: Any) -> int:
        """How many workers there should be: the operator's word counts over the file's.

        Within a range it is what the load has asked for so far.
        """
        count = cfg.worker_count
        return self.operator_workers or min(max(self.num_workers, count.minimum), count.maximum)

    def start_probe(self) -> TemplateProbe:
        """Fork the child that imports the application."""
        probe = TemplateProbe(self)
        self.probes.add(probe.pid)
        return probe

    # -- start -----------------------------------------------------------------------------

    def start(self) -> None:
        """Learn the binds, open every socket, make the runtime directory; then signals."""
        self.pid = os.getpid()
        self._wakeup_reader, self._wakeup_writer = os.pipe()
        for fd in (self._wakeup_reader, self._wakeup_writer):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGTERM, _give_up)
        for sig in ORDERS:
            signal.signal(sig, self.signal)  # obeyed once there is something to order
        let_through(ORDERS)
        self.log.info("Starting apihour %s", __version__)
        for note in self.app.notes:
            self.log.info("%s", note)
        self._stats["start_time"] = time.time()
        named = systemd_sockets(os.environ, self.pid)
        self.systemd = bool(named) or bool(self.inheritance and self.inheritance.systemd)
        if sys.platform == "linux":
            prctl.preload()
        probe = self.start_probe()
        try:
            report = probe.wait(self.cfg.boot_timeout)
        except BaseException:
            probe.kill()
            raise
        if not self.templates.settle(self.generation, probe):
            self._reap_one(probe.pid)
        probe.close()
        if report.error:
            raise _with_detail(report.error, report.detail)
        binds = self.app_binds(report.binds)
        inherited = self.inheritance.listeners() if self.inheritance else []
        self.LISTENERS, _ = self.open_binds(binds, self.cfg, inherited, named)
        named_extras = {x.name[1:]: x for x in inherited if x.name.startswith("@")}
        self.extra_listeners = self.open_extras(self.cfg, named_extras)
        for listener in inherited:
            if listener not in self.LISTENERS and listener not in self.extra_listeners.values():
                listener.close()
        self._make_runtime()
        self._write_pidfile()
        self.cfg.on_starting(self)
        self.init_signals()
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        self._log_binds([], [*self.LISTENERS, *self.extra_listeners.values()])
        self.log.info("Workers: %s, arbiter pid %d", self.cfg.worker_count, self.pid)
        systemd.sd_notify("STATUS=apihour is starting its workers", self.log)
        self.cfg.when_ready(self)

    def open_binds(
        self, binds: dict[str, list[Address]], cfg: Any, have: list[Listener],
        named: Mapping[str, list[Any]] | None = None,
    ) -> tuple[list[Listener], list[Listener]]:
        """Listeners for `binds`, those of `have` kept; returns (all, newly opened ones)."""
        slots = max(self.wanted_workers(cfg), cfg.worker_count.maximum)
        return open_binds(binds, cfg, slots, have, named or {})

    @staticmethod
    def open_extras(cfg: Any, have: Mapping[str, Listener]) -> dict[str, Listener]:
        """The console's and health's own listeners under `cfg`, those of `have` kept."""
        return open_extras(cfg, have)

    def _make_runtime(self) -> None:
        cfg = self.cfg
        try:
            if self.inheritance is not None:
                self.runtime = Runtime(self.inheritance.runtime)
                self.runtime.join()
            else:
                self.runtime = Runtime.create(cfg.uid, cfg.gid, self.pid)
                if note := unusual(self.runtime.path.parent, cfg.uid):
                    self.log.warning("%s", note)
            path = str(self.runtime.scoreboard(self.pid))
            self.scoreboard = Scoreboard.create(path, (cfg.uid, cfg.gid))
            self._fill_scoreboard()
        except OSError as error:
            raise ConfigurationError(
                f"runtime directory {str(self.runtime.path)!r}: {error.strerror}; expected room "
                "for a few hundred kB") from error

    def _fill_scoreboard(self) -> None:
        self.scoreboard.set_fleet(Fleet.ARBITER, self.pid)
        self.scoreboard.set_fleet(Fleet.STARTED, time.time())
        self.scoreboard.set_fleet(Fleet.GENERATION, self.generation)
        if self.inheritance is None:
            self._own_runtime()

    def _own_runtime(self) -> None:
        """Become the arbiter that others find: control socket and instance file."""
        cfg = self.cfg
        self.control = Control(
            str(self.runtime.arbiter_socket), (cfg.uid, cfg.gid), self.commands.dispatch
        )
        self.write_instance()

    def write_instance(self) -> None:
        """Say in the runtime directory who this daemon is. Raises OSError."""
        cfg = self.cfg
        facts = {
            "pid": self.pid, "target": self.app.target, "directory": self.app.working_directory(),
            "name": self.proc_name, "version": __version__,
            "started": self.scoreboard.fleet(Fleet.STARTED), "console": not cfg.no_console,
        }
        self.runtime.write_instance(facts, (cfg.uid, cfg.gid))

    control: Control | None = None

    def take_over(self) -> None:
        """After an upgrade: every wanted worker is ready, so become the daemon's arbiter."""
        self._own_runtime()
        if self.cfg.pidfile is not None:
            self.pidfile = write_pidfile(self.cfg.pidfile, self.pid)
        self.announce()

    def _write_pidfile(self) -> None:
        if self.cfg.pidfile is None or self.inheritance is not None:
            return
        see_pidfile(self.cfg)
        self.pidfile = Pidfile(self.cfg.pidfile)
        try:
            self.pidfile.create(self.pid)
        except OSError as error:
            self.pidfile = None
            raise ApihourError(
                f"--pid {self.cfg.pidfile!r}: {error.strerror}; expected a file that can be written"
            ) from error
        except RuntimeError as error:  # another daemon's
            self.pidfile = None
            raise ApihourError(f"--pid {self.cfg.pidfile!r}: {error}") from error

    # -- the loop --------------------------------------------------------------------------

    def run(self) -> None:
        """Start, then turn until told to stop; leaves by SystemExit."""
        try:
            self.start()
        except SystemExit:  # told to stop: no failure
            self._undo_start()
            raise
        except BaseException as error:
            if self.inheritance is not None:
                self.inheritance.fail(str(error), getattr(error, "detail", ""))
            self._undo_start()
            self._log_failure(str(error))
            raise
        self._turns()

    def _log_failure(self, reason: str) -> None:
        """Why it ends, to a log of its own: the command says it on stderr only."""
        if self.cfg.errorlog != "-":
            self.log.error("%s", reason)

    def _undo_start(self) -> None:
        """Leave nothing bound or half-written after a failed start."""
        for listener in [*self.LISTENERS, *self.extra_listeners.values()]:
            listener.close()
            if self.inheritance is None:
                listener.unlink()
        if self.control is not None:
            self.control.close()
        if self.pidfile is not None:
            self.pidfile.unlink()
        if hasattr(self, "runtime") and self.inheritance is None:
            self.runtime.remove()
        elif hasattr(self, "scoreboard"):
            self.runtime.scoreboard(self.pid).unlink(missing_ok=True)
        self.templates.end()

    def _turns(self) -> None:
        set_process_title(f"arbiter [{self.proc_name}]")
        failures = 0
        while True:
            try:
                self._turn()
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

    def _turn(self) -> None:
        self.manage_workers()
        for sig in self.wait_for_signals():
            name = self.SIG_NAMES.get(sig)
            handler = getattr(self, f"handle_{name}", None)
            if handler is not None:
                level = self.log.debug if sig == signal.SIGCHLD else self.log.info
                level("Handling signal: %s", name)
                handler()
        self.reap_workers()
        self.murder_workers()

    def wait_for_signals(self, timeout: float | None = None) -> list[int]:
        """Poll everything once; return the signals that came meanwhile."""
        if timeout is None:
            timeout = BUSY if self._is_busy() else IDLE
        watched = self._watched()
        poll = select.poll()
        for fd in watched:
            poll.register(fd, select.POLLIN)
        try:
            events = poll.poll(0 if not self.SIG_QUEUE.empty() else timeout * 1000)
        except InterruptedError:
            events = []
        for fd, _ in events:
            watched[fd]()
        if self.control is not None:
            self.control.flush()
        signals: list[int] = []
        while not self.SIG_QUEUE.empty():
            signals.append(self.SIG_QUEUE.get_nowait())
        # Told to stop, nothing that queued up before matters.
        return sorted(signals, key=lambda each: each not in STOPS)

    def _watched(self) -> dict[int, Callable[[], None]]:
        watched: dict[int, Callable[[], None]] = {self._wakeup_reader: self._drain_wakeup}
        for worker in [*self.WORKERS.values(), *self.retiring.values()]:
            if worker.channel_open:
                watched[worker.channel.fileno()] = partial(self.children.hear, worker)
        for fd in [*self.changes.descriptors(), *self.templates.descriptors()]:
            watched[fd] = _nothing  # advance() and keep() read them
        if self.control is not None:
            control = self.control
            for fd in control.descriptors():
                watched[fd] = partial(control.on_readable, fd)
        return watched

    def _is_busy(self) -> bool:
        return bool(
            self.changes.are_under_way() or self.retiring or self.keeper.is_waiting()
            or any(not worker.ready for worker in self.WORKERS.values())
        )

    def _drain_wakeup(self) -> None:
        try:
            while os.read(self._wakeup_reader, 4096):
                continue
        except BlockingIOError:
            return

    def signal(self, sig: int, frame: Any) -> None:
        """Queue a signal; the wakeup descriptor ends the poll."""
        self.SIG_QUEUE.put_nowait(sig)

    def announce(self) -> None:
        state = f"READY=1\nMAINPID={self.pid}\nSTATUS=apihour serves"
        systemd.sd_notify(state, self.log)

    # -- workers ---------------------------------------------------------------------------

    def live_workers(self) -> list[HostWorker]:
        """The workers on the books, of any generation; those that retire are not."""
        return list(self.WORKERS.values())

    def spawn(
        self, slot: int, generation: int, listeners: list[Listener], cfg: Any
    ) -> HostWorker:
        """Fork one worker into a slot. Raises OSError when the system has no room for it."""
        return self.children.spawn(slot, generation, listeners, cfg)

    def is_replacing(self) -> bool:
        """Whether what starts now adds nothing that is missing: enough serve without it."""
        if self.inheritance is not None and not self.inheritance.is_done:
            return True
        return sum(worker.ready for worker in self.live_workers()) >= self.num_workers

    def retire(self, worker: HostWorker, sig: int = _RETIRE) -> None:
        """Take a worker off the books and follow it to its own deadline."""
        self.children.retire(worker, sig)

    def manage_workers(self) -> None:
        """Advance whatever is under way, then bring the number of workers to what is wanted."""
        if self.boot_error is not None:
            message, detail = self.boot_error
            raise _Halt(message, detail)
        self.changes.advance()
        self.scoreboard.set_fleet(Fleet.WANTED, self.num_workers)
        self.scoreboard.set_fleet(Fleet.LOST_LINES, lost_lines(self.log))
        self.keeper.keep()
        self.restarts.advance()
        self.templates.keep()
        if not self.stopping:
            self.guard.look()
            self.leftovers.look()
        if not self.stopping and self.guard.is_intact:
            self.consoles.keep_up()
        if self.inheritance is not None:
            self.inheritance.report(self)

    def shed(self) -> None:
        """In a child: let go of what belongs to the arbiter alone."""
        self.ring.detach()
        self.ring.records.clear()
        signal.set_wakeup_fd(-1)
        hold_off([signal.SIGUSR1])  # a worker will want to know of it
        ignore(set(ORDERS) - {signal.SIGUSR1})
        for sig in (*STOPS, signal.SIGCHLD):
            signal.signal(sig, signal.SIG_DFL)
        for fd in (self._wakeup_reader, self._wakeup_writer):
            os.close(fd)
        for worker in [*self.WORKERS.values(), *self.retiring.values()]:
            worker.channel.close()
        if self.control is not None:
            self.control.close_inherited()
        if hasattr(self, "scoreboard"):  # the first probe is forked before there is one
            self.scoreboard.let_go()
        for listener in self.extra_listeners.values():
            listener.close()
        self.changes.shed()
        self.templates.close_inherited()
        if self.inheritance is not None:
            self.inheritance.close()

    def kill_worker(self, pid: int, sig: int) -> None:
        """gunicorn's name for it: a TERM retires, anything else is sent."""
        worker = self.WORKERS.get(pid)
        if worker is not None and sig == signal.SIGTERM:
            self.retire(worker)
            return
        worker = worker or self.retiring.get(pid)
        if worker is not None:
            self.children.send(worker, sig)

    def reap_workers(self) -> None:
        """Collect every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid, status)

    def _reap_one(self, pid: int) -> None:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            return
        finally:
            self.probes.discard(pid)

    def _reaped(self, pid: int, status: int) -> None:
        self.priority.forget(pid)
        if pid in self.probes or self.templates.on_exit(pid):
            self.probes.discard(pid)
        elif self.changes.on_exit(pid, status) or self.consoles.on_exit(pid, describe(status)):
            return
        elif pid in self.retiring:
            worker = self.retiring.pop(pid)
            self.log.info("Worker %s retired (pid: %s)", worker.name, pid)
            self.children.forget(worker)
        elif pid in self.WORKERS:
            self.children.lost(self.WORKERS.pop(pid), status)
        else:
            self.log.debug("Reaped unknown child process (pid:%s, status:%s)", pid, status)

    def kill_retiring(self) -> None:
        """End the retiring workers that are past their deadline."""
        self.children.kill_retiring()

    def murder_workers(self) -> None:
        """Enforce every deadline: booting, heartbeat, drain."""
        self.keeper.enforce()
        self.priority.expire()

    # -- reload ----------------------------------------------------------------------------

    def reload(self) -> None:
        """Begin a reload; during one, remember to do another."""
        self.changes.request_reload(None)

    def adopt(self, reload: Reload) -> None:
        """The commit of a reload: its configuration, listeners and workers are now the ones."""
        old = [w for w in self.live_workers() if w.generation != reload.generation]
        for key in self.cfg.env:
            if key in self.cfg.env_orig:
                os.environ[key] = self.cfg.env_orig[key]
            else:
                os.environ.pop(key, None)
        self.generation = reload.generation
        self.templates.keep_only(self.generation)
        self.scoreboard.set_fleet(Fleet.GENERATION, self.generation)
        assert reload.app_state is not None
        self.app.restore(reload.app_state)
        if reload.release:
            self.releases.leave()
        self.releases.note(reload.app_state.directory)
        self.setup(self.app)
        self.log.reopen_files()
        self.ring.detach()  # a logging configuration may have taken its place
        self.ring.attach(self.log.error_log)
        before = [*self.LISTENERS, *self.extra_listeners.values()]
        self.LISTENERS, self.extra_listeners = reload.listeners, reload.extras
        now = [*self.LISTENERS, *self.extra_listeners.values()]
        self._log_binds(before, now)
        discard([listener for listener in before if listener not in now], now)
        for listener in self.LISTENERS:
            listener.apply(self.cfg.backlog)
        for worker in old:
            self.retire(worker)
        self.keeper.on_new_generation()
        ready = [worker for worker in self.live_workers() if worker.ready]
        if ready:
            self.consoles.manage(ready[0].report)
        try:
            self.cfg.on_reload(self)
        except Exception:
            self.log.exception("hook on_reload failed")

    def _log_binds(self, before: list[Listener], now: list[Listener]) -> None:
        """Say which binds a reload has closed and opened; the slots of one are one."""
        old, new = ({str(x): None for x in those} for those in (before, now))
        for place in old:
            if place not in new:
                self.log.info("No longer listening at: %s", place)
        for place in new:
            if place not in old:
                self.log.info("Listening at: %s", place)

    def setup(self, app: Any) -> None:
        """Take over a configuration; the worker count of operator and load stays."""
        before = self.num_workers
        super().setup(app)
        if before is not None:
            self.num_workers = before
            self.num_workers = self.wanted_workers(app.cfg)

    # -- signals ---------------------------------------------------------------------------

    def handle_term(self) -> None:
        """Leave gracefully."""
        raise Leave

    def handle_int(self) -> None:
        """Leave at once."""
        self.stop(False)
        raise Leave

    handle_quit = handle_int

    def handle_hup(self) -> None:
        """Reload, gated."""
        self.changes.request_reload(None)

    def handle_ttin(self) -> None:
        """One worker more, kept across reloads."""
        self.scale(self.num_workers + 1)

    def handle_ttou(self) -> None:
        """One worker fewer, never none."""
        if self.num_workers > 1:
            self.scale(self.num_workers - 1)

    def scale(self, count: int) -> None:
        """The operator's own number of workers."""
        self.operator_workers = count
        self.num_workers = count

    def handle_usr1(self) -> None:
        """Reopen the log files, here, in every worker and in the consoles."""
        self.log.reopen_files()
        for worker in [*self.WORKERS.values(), *self.retiring.values()]:
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

    # -- upgrade ---------------------------------------------------------------------------

    def reexec(self) -> None:
        """SIGUSR2: start a new arbiter on the same sockets."""
        error = self.changes.request_upgrade(None)
        if error:
            self.log.error("Upgrade refused: %s", error)

    # -- stop ------------------------------------------------------------------------------

    def halt(
        self, reason: str | None = None, exit_status: int = 0, detail: str = ""
    ) -> None:
        """Stop everything and leave with `exit_status`."""
        self.stop()
        self.log.info("Shutting down: arbiter")
        if self.pidfile is not None:
            self.pidfile.unlink()
        self.cfg.on_exit(self)
        if exit_status and reason:
            self._log_failure(reason)
            raise _with_detail(reason, detail)
        sys.exit(exit_status)

    def stop(self, graceful: bool = True) -> None:
        """Retire all workers, wait for them to their deadline, leave nothing behind."""
        if not self.stopping:  # else it is done, or being done further up
            self.stopping = True
            Shutdown(self).run(graceful)

    def is_the_one(self) -> bool:
        """Whether this arbiter owns the daemon; one still taking over does not."""
        return self.inheritance is None or self.inheritance.is_done


class _Halt(HaltServer):  # type: ignore[misc]
    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message, 1)
        self.detail = detail


def _with_detail(message: str, detail: str) -> ApihourError:
    error = ApihourError(message)
    error.detail = detail
    return error


def _give_up(sig: int, frame: Any) -> None:
    """Told to stop before there is anything to stop."""
    sys.exit(0)


def _nothing() -> None:
    return None


