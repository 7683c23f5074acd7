"""One worker: one process, one event loop, one container, all of its servers.

Rules:

- It reports to the arbiter over its channel: ``ready``, ``failed`` with the reason; the end
  of the channel means that the arbiter is gone, and the worker retires by itself.
- It has its parts: its servers, its heartbeat, its leaving.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
from typing import Any

from gunicorn import util
from gunicorn.workers.base import Worker

from apihour.app.hooks import call_class, call_hook, make_loop, see_hooks, takes_sockets
from apihour.app.target import load_target
from apihour.bind.bans import Bans
from apihour.config.naming import hook_title
from apihour.config.owner import become_owner
from apihour.config.rootlog import Speaker
from apihour.errors import ApihourError
from apihour.ipc import faults
from apihour.ipc.prctl import PR_SET_PDEATHSIG, prctl
from apihour.ipc.private import set_process_title
from apihour.ipc.scoreboard import WorkerState
from apihour.ipc.signals import ORDERS, STOPS, EarlyExit, handle_in_loop, ignore, let_through
from apihour.ops.ids import Ids
from apihour.ops.sampler import CpuSampler
from apihour.worker.assignment import Assignment
from apihour.worker.connections import ConnectionTable
from apihour.worker.failing import Failures
from apihour.worker.heartbeat import Heartbeat
from apihour.worker.leaving import Leaving
from apihour.worker.servers import ServerSet

__all__ = ["BLOCKED", "BOOT_FAILED", "HostWorker"]

BLOCKED = {*STOPS, signal.SIGUSR1}
"""Signals that wait from the fork on until the worker can obey them."""
BOOT_FAILED = 3  # exit status of a worker that never became ready


class HostWorker(Worker):  # type: ignore[misc]
    """gunicorn's worker, with an event loop and a container in it."""

    def __init__(self, given: Assignment, app: Any, cfg: Any, log: Any) -> None:
        # Not gunicorn's own __init__: it makes a temporary file for heartbeats, which are
        # in the scoreboard here.
        self.age = given.age
        self.start = given.start
        self.pid: Any = "[booting]"
        self.ppid = given.ppid
        self.sockets = given.sockets
        self.slot = given.slot
        self.generation = given.generation
        self.channel = given.channel
        self.row = given.row
        self.name = given.row.worker
        self.scoreboard = given.scoreboard
        self.runtime = given.runtime
        self.app = app
        self.timeout = cfg.timeout / 2.0
        self.cfg = cfg
        self.log = log
        self.under_way = ""
        self.booted = False
        self.alive = True
        self.container: Any = None
        self.jobs: Any = None
        self.loop: Any = None
        self.certificates: Any = None
        retiring = asyncio.Event()
        self._servers = ServerSet(self, self._begin, retiring)
        self.servers = self._servers.all
        self.heed_orders = self._servers.heed_orders
        self._leaving = Leaving(self, self._servers, retiring)
        self.sampler = CpuSampler()
        self.started = time.monotonic()
        self.beat = self.started
        self.exit_code = 0
        self._told_early = False

    # -- process ---------------------------------------------------------------------------

    def init_process(self) -> None:
        """Enter the process after the fork: environment, owner, signals, loop; never returns."""
        self.started = self.beat = time.monotonic()
        self.name = self.row.worker
        self.row.pid = self.pid = os.getpid()
        self.row.heartbeat = self.started
        self.ids = Ids(self.name, self.start)
        self.connections = ConnectionTable(self.name, self.row.connection_numbers(), self.ids)
        self.bans = self.connections.bans = Bans(self.runtime.bans, self.log.error_log)
        self.bans.look()
        self._heartbeat = Heartbeat(self, self._servers, self.bans)
        self._enter()
        self.agent: Any = None
        try:
            self.agent = self._make_agent()
        except Exception as error:
            self.report_failure(error)
            sys.exit(self.exit_code)
        try:
            self.run()
        finally:
            if self.agent is not None:
                self.agent.stop()
        sys.exit(self.exit_code)

    def _enter(self) -> None:
        """Environment, keys, owner, title and signals of this process."""
        for key, value in self.cfg.env.items():
            os.environ[key] = value
        try:
            # While keys of root's can be read.
            self._servers.prepare_tls()
            become_owner(self.cfg)
        except ApihourError as error:
            self.report_failure(error)
            sys.exit(self.exit_code)
        util.seed()
        set_process_title(f"worker {self.name} [{self.cfg.proc_name}]")
        self._reset_signals()
        self.sampler.install()
        self._name_in_log()
        if sys.platform == "linux":
            # Until it serves it holds nothing but the binds, which a new daemon wants.
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != self.ppid:
                sys.exit(0)

    def _name_in_log(self) -> None:
        """What the application logs, warns of and fails with goes to the log, with this name."""
        fallback = getattr(self.log, "fallback", None)  # another logger class may have none
        if fallback is not None:
            fallback.worker = self.name
        self.log.error_log.addFilter(Speaker(self.name))
        self._failures = Failures(self, self.log.error_log)
        self._failures.install_in_process()

    def _reset_signals(self) -> None:
        signal.set_wakeup_fd(-1)
        ignore(set(ORDERS) - BLOCKED)
        signal.signal(signal.SIGUSR1, self._reopen)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGABRT, self.handle_abort)
        signal.signal(signal.SIGTERM, self._exit_now)
        signal.signal(signal.SIGINT, self._exit_now)
        signal.signal(signal.SIGQUIT, self._exit_now)
        let_through(BLOCKED)

    def _reopen(self, sig: int, frame: Any) -> None:
        """The logs were rotated while there is no loop yet."""
        self.log.reopen_files()

    def _exit_now(self, sig: int, frame: Any) -> None:
        """A signal while there is no loop yet: nothing is held, so leave."""
        self._told_early = True  # should the exit be swallowed, in a weak reference's callback
        raise EarlyExit(0)

    def _exit_soon(self, sig: int, frame: Any) -> None:
        """A signal while the loop is made or starts: it leaves in its first step.

        An exit would drop a loop half made, about which its library complains.
        """
        self._told_early = True

    def _make_agent(self) -> Any:
        if self.cfg.no_console:
            faults.register(self.runtime, self.pid)
            return None
        agent = importlib.import_module("apihour.ops.agent").Agent(self)
        try:
            agent.start()
        except OSError as error:
            raise ApihourError(
                f"runtime directory {str(self.runtime.path)!r}: {error.strerror}; expected room "
                f"for the files of worker {self.name}") from error
        return agent

    def run(self) -> None:
        """Import the application, make its loop, live in it."""
        try:
            try:
                self._begin(f"target {self.app.target!r}: its import")
                container_class = load_target(self.app.target, self.cfg.factory)
                config = self.app.configuration.container_config()
                for sig in STOPS:
                    signal.signal(sig, self._exit_soon)
                self._begin(hook_title(container_class, "make_event_loop"))
                self.loop = make_loop(container_class, config)
            except Exception as error:
                self.report_failure(error)
                return
            asyncio.set_event_loop(self.loop)
            self._failures.install_in_loop(self.loop)
            if self.cfg.debug:
                self.loop.set_debug(True)
            self.loop.run_until_complete(self._live(container_class, config))
        finally:  # also when a signal ends it before the loop runs
            try:
                if self.loop is not None:
                    self._finish_loop()
            finally:
                self._failures.flush()

    def _finish_loop(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    # -- life ------------------------------------------------------------------------------

    async def _live(self, container_class: type[Any], config: dict[str, Any]) -> None:
        leaving = self._leaving
        self._listen_to_arbiter()
        if self._told_early:
            await leaving.leave()
            return
        self._heartbeat.begin()
        starting = asyncio.ensure_future(self._start(container_class, config))
        giving_up = asyncio.ensure_future(leaving.retiring.wait())
        left = self.row.started + self.cfg.boot_timeout - time.monotonic()
        await asyncio.wait({starting, giving_up}, timeout=max(0.0, left),
                           return_when=asyncio.FIRST_COMPLETED)
        try:
            if not starting.done() and leaving.retiring.is_set():
                starting.cancel()
                await asyncio.wait({starting})
            elif not starting.done():
                from apihour.worker.overdue import give_up  # it needs the commands

                await give_up(self, starting)
            elif (error := starting.exception()) is not None:
                self.report_failure(error)
            else:
                await giving_up
                await leaving.retire()
        finally:
            giving_up.cancel()
            await leaving.leave()

    def _begin(self, what: str) -> None:
        """Tell the arbiter what is under way: blocked in it, this worker cannot say it itself."""
        if self.exit_code == BOOT_FAILED:
            raise asyncio.CancelledError  # the hook before took no notice of it
        self.under_way = what
        self.channel.send(event="begun", what=what)

    async def _call(self, name: str, *args: Any) -> Any:
        self._begin(hook_title(type(self.container), name))
        return await call_hook(self.container, name, *args)

    async def _start(self, container_class: type[Any], config: dict[str, Any]) -> None:
        self._begin(hook_title(container_class, "__init__"))
        container = call_class(
            container_class, "__init__", config=config, worker=self, loop=self.loop
        )
        see_hooks(container)
        # Whoever declares a job has imported that.
        if "apihour.jobs" in sys.modules or container.config.get("jobs"):
            jobs = importlib.import_module("apihour.jobs.container_jobs")
            self.jobs = jobs.make_jobs(container, self.name, self.log.error_log)
        self.container = container
        if self.agent is not None:
            self.agent.adopt(self.container)
        await self._call("pre_start")
        await self.container.open_engines(await self._call("make_engines"), self._begin)
        if takes_sockets(self.container):
            await self._call("start")
            self._servers.adopt_ancestor(await self._call("make_servers", self.sockets))
            self._servers.see_singles(with_servers=False)
        else:
            self._servers.adopt(await self._call("make_servers"))
            self._servers.see_singles()
            await self._call("start")
            await self._servers.start()
        self._begin("hook post_worker_init")
        self.cfg.post_worker_init(self)
        self._heartbeat.balance.refresh()
        await self._servers.accept(self._heartbeat.balance)
        self._serve()

    def _serve(self) -> None:
        """Everything accepts: say so."""
        self.booted = True
        if self.agent is not None:
            self.agent.listen()
        # An application's dictConfig() silences the loggers it does not name.
        self.log.error_log.disabled = self.log.access_log.disabled = False
        if sys.platform == "linux":
            prctl(PR_SET_PDEATHSIG, 0)
        # The arbiter minds heartbeats from now on, and an import may have taken long.
        self.beat = self.row.heartbeat = time.monotonic()
        self.row.accepting = 1.0
        self.row.state = WorkerState.SERVING
        shells = self._servers.shells()
        for serving in shells:
            serving.stop_accepting()
        self.channel.send(
            event="ready",
            servers=[
                {"name": s.name, "protocol": s.protocol, "addresses": s.addresses,
                 "options": getattr(s.server, "options", {}) if s.is_shell else {}}
                for s in self.servers.values()
            ],
            shells={s.name: [listener.name for listener in s.listeners] for s in shells},
        )
        self._servers.watch_singles()
        if self._servers.terminators:
            tls = importlib.import_module("apihour.tls.renewal")
            self.certificates = tls.watch(self, self._servers.terminators.values())
        if self.jobs is not None:
            self.jobs.begin(self._servers.may_take)

    def report_failure(self, error: BaseException, detail: str = "") -> None:
        """Tell the arbiter why this worker will not serve; `detail` instead of a traceback."""
        from apihour.blame import account  # read where one fails only

        self.exit_code = BOOT_FAILED
        self.channel.send(event="failed", **account(error, detail))

    # -- orders -----------------------------------------------------------------------------

    def _listen_to_arbiter(self) -> None:
        loop = self.loop
        loop.add_signal_handler(signal.SIGTERM, self._leaving.retiring.set)
        loop.add_signal_handler(signal.SIGINT, self._quit)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        handle_in_loop(loop, signal.SIGUSR1, self.log.reopen_files)
        loop.add_reader(self.channel.fileno(), self._on_channel)

    def _on_channel(self) -> None:
        messages = self.channel.receive()
        if messages is None:
            self.loop.remove_reader(self.channel.fileno())
            if not self._leaving.retiring.is_set():
                self.log.warning("Worker %s: the arbiter is gone, retiring", self.name)
            self._leaving.is_orphan = True
            self._leaving.retiring.set()
            return
        for message in messages:
            if message.get("command") == "suspend":
                self._suspend(True)
            elif message.get("command") == "resume":
                self._suspend(False)
            elif message.get("command") == "follow":
                from apihour.worker.followed import follow  # read where it has vanished only

                follow(self, str(message.get("scoreboard")))

    def _suspend(self, suspended: bool) -> None:
        self._servers.suspend(suspended)
        if self.booted and not self._leaving.retiring.is_set():
            self.row.accepting = 0.0 if suspended else 1.0

    def _quit(self) -> None:
        self.cfg.worker_int(self)
        self._leaving.quit()
