"""One worker: one process, one event loop, one container, all of its servers.

Rules:

- It reports to the arbiter over its channel: ``ready``, ``failed`` with the reason; the end
  of the channel means that the arbiter is gone, and the worker retires by itself.
- Its heartbeat is a timer of the loop, so a blocked loop is seen from outside.
- Accepting comes last, and stops first.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.workers.base import Worker

from apihour.app.hooks import call_class, call_hook, hook_title, make_loop, see_hooks, takes_sockets
from apihour.app.target import load_target
from apihour.bind.bans import Bans
from apihour.bind.binds import match_servers, one_kind
from apihour.bind.listeners import Listener
from apihour.blame import blame_frames, is_user_code, user_traceback
from apihour.config.log import lost_lines
from apihour.config.owner import become_owner
from apihour.config.tree import server_options
from apihour.errors import ApihourError, HookError, one_line
from apihour.excerpt import DETAIL, LINE, excerpt
from apihour.ipc import faults
from apihour.ipc.prctl import PR_SET_PDEATHSIG, prctl
from apihour.ipc.private import set_process_title
from apihour.ipc.scoreboard import Fleet, Row, State
from apihour.ipc.signals import ORDERS, STOPS, handle_in_loop, ignore, let_through
from apihour.ops.sampler import CpuSampler
from apihour.plugins import Registry, ServerContext
from apihour.worker.accept import Balance
from apihour.worker.assignment import Assignment
from apihour.worker.connections import ConnectionTable
from apihour.worker.crashes import CrashLog
from apihour.worker.serving import AncestorServer, Serving
from apihour.worker.single import Singles, see_singles
from apihour.worker.tls import Terminator
from apihour.worker.tls import prepare as prepare_tls

__all__ = ["BEAT", "BLOCKED", "BOOT_FAILED", "HostWorker"]

BEAT = 0.25  # seconds between two heartbeats; lag shorter than this is still measured
BLOCKED = {*STOPS, signal.SIGUSR1}
"""Signals that wait from the fork on until the worker can obey them."""
BOOT_FAILED = 3  # exit status of a worker that never became ready
_CANCEL = 2.0  # seconds a hook past the boot timeout has to end once it is cancelled
_HEED = 0.5  # seconds a goodbye has to end once its drain is over
_ORPHAN_BIND = 0.5  # seconds that answers to datagrams may take once the arbiter is gone
_FOREIGN_AGE = 1.0  # seconds without a heartbeat after which a worker does not count for balance


class HostWorker(Worker):  # type: ignore[misc]
    """gunicorn's worker, with an event loop and a container in it."""

    def __init__(self, given: Assignment, app: Any, cfg: Any, log: Any) -> None:
        # Not gunicorn's own __init__: it makes a temporary file for heartbeats, which are
        # in the scoreboard here.
        self.age = given.age
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
        self.aborted = False
        self.alive = True
        self.nr = 0
        self.container: Any = None
        self.loop: Any = None
        self.servers: dict[str, Serving] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._terminators: dict[Listener, Terminator] = {}
        self.sampler = CpuSampler()
        self.started = time.monotonic()
        self.beat = self.started
        self.exit_code = 0
        self._quick = False
        self._told_early = False
        self._orphaned = False
        self._once: dict[str, bool] = {}
        self._beat_due = 0.0

    # -- process ---------------------------------------------------------------------------

    def init_process(self) -> None:
        """Enter the process after the fork: environment, owner, signals, loop; never returns."""
        self.started = self.beat = time.monotonic()
        self.name = self.row.worker
        self.row.pid = self.pid = os.getpid()
        self.row.heartbeat = self.started
        self.connections = ConnectionTable(self.name, self._count_connections)
        self.bans = self.connections.bans = Bans(self.runtime.bans, self.log.error_log)
        self.bans.look()
        for key, value in self.cfg.env.items():
            os.environ[key] = value
        try:
            # While keys of root's can be read.
            self._terminators = prepare_tls(self.cfg, self.sockets)
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
        self._agent: Any = None
        try:
            self._agent = self._make_agent()
        except Exception as error:
            self.report_failure(error)
            sys.exit(self.exit_code)
        try:
            self.run()
        finally:
            if self._agent is not None:
                self._agent.stop()
        sys.exit(self.exit_code)

    def _name_in_log(self) -> None:
        """What the application logs, warns of and fails with goes to the log, with this name."""
        fallback = getattr(self.log, "fallback", None)  # another logger class may have none
        if fallback is not None:
            fallback.worker = self.name
        self._crashes = CrashLog(self, self.log.error_log)
        self._crashes.install_in_process()

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
        sys.exit(0)

    def _exit_soon(self, sig: int, frame: Any) -> None:
        """A signal while the loop starts: it leaves in its first step."""
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
                config = self.app.container_config()
                self._begin(hook_title(container_class, "make_event_loop"))
                self.loop = make_loop(container_class, config)
            except Exception as error:
                self.report_failure(error)
                return
            asyncio.set_event_loop(self.loop)
            self._crashes.install_in_loop(self.loop)
            if self.cfg.debug:
                self.loop.set_debug(True)
            for sig in STOPS:
                signal.signal(sig, self._exit_soon)
            self.loop.run_until_complete(self._live(container_class, config))
        finally:  # also when a signal ends it before the loop runs
            if self.loop is not None:
                self._finish_loop()

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
        self._retiring = asyncio.Event()
        self._quitting = asyncio.Event()
        self._listen_to_arbiter()
        if self._told_early:
            await self._leave()
            return
        self._schedule_beat()
        starting = asyncio.ensure_future(self._start(container_class, config))
        giving_up = asyncio.ensure_future(self._retiring.wait())
        left = self.row.started + self.cfg.boot_timeout - time.monotonic()
        await asyncio.wait({starting, giving_up}, timeout=max(0.0, left),
                           return_when=asyncio.FIRST_COMPLETED)
        try:
            if not starting.done() and self._retiring.is_set():
                starting.cancel()
                await asyncio.wait({starting})
            elif not starting.done():
                await self._give_up(starting)
            elif (error := starting.exception()) is not None:
                self.report_failure(error)
            else:
                await giving_up
                await self._retire()
        finally:
            giving_up.cancel()
            await self._leave()

    async def _give_up(self, starting: asyncio.Task[None]) -> None:
        """Past the boot timeout, with a loop that turns: say what is waited for, and undo it."""
        from apihour.ops.commands.tasks import task_places  # needed here only

        found = task_places(starting)[::-1]
        place = blame_frames([(one.file, one.line) for one in found])
        own = [one for one in found if is_user_code(one.file)]
        stack = "".join(traceback.StackSummary.from_list(
            [(one.file, one.line, one.function, None) for one in own or found]).format())
        error = HookError(f"{self.under_way} was not done within {self.cfg.boot_timeout:g} s "
                          f"(--boot-timeout){': ' if place else ''}{place}")
        self.log.error("Worker %s: %s was not done in time; it waits in\n%s", self.name,
                       self.under_way, stack.rstrip())
        self.report_failure(error, stack)
        starting.cancel()
        await asyncio.wait({starting}, timeout=_CANCEL)
        if starting.done() and not starting.cancelled() and (other := starting.exception()):
            self.log.error("Worker %s: cancelled, %s", self.name, other)

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
        self.container = container
        if self._agent is not None:
            self._agent.adopt(self.container)
        await self._call("pre_start")
        if takes_sockets(self.container):
            await self._call("start")
            await self._start_ancestor()
            self._see_singles({})
        else:
            self._adopt(await self._call("make_servers"))
            self._see_singles(self.servers)
            await self._call("start")
            for serving in self._common_servers():
                await self._start_server(serving)
        self._begin("hook post_worker_init")
        self.cfg.post_worker_init(self)
        self._balance = Balance(self.row, self._neighbours)
        self._balance.refresh()
        for serving in self._common_servers():
            self._begin(f"server {serving.name!r} ({serving.protocol}): its accepting")
            await self._accept(serving, self._balance)
        self.booted = True
        if self._agent is not None:
            self._agent.listen()
        # An application's dictConfig() silences the loggers it does not name.
        self.log.error_log.disabled = self.log.access_log.disabled = False
        if sys.platform == "linux":
            prctl(PR_SET_PDEATHSIG, 0)
        # The arbiter minds heartbeats from now on, and an import may have taken long.
        self.beat = self.row.heartbeat = time.monotonic()
        self.row.accepting = 1.0
        self.row.state = State.SERVING
        shells = [serving.name for serving in self.servers.values() if serving.is_shell]
        for name in shells:
            self.servers[name].stop_accepting()
        self.channel.send(
            event="ready",
            servers=[
                {"name": s.name, "protocol": s.protocol, "addresses": s.addresses,
                 "options": getattr(s.server, "options", {}) if s.is_shell else {}}
                for s in self.servers.values()
            ],
            shells={name: [listener.name for listener in self.servers[name].listeners]
                    for name in shells},
        )
        for name in self._once:
            server = self.servers.get(name)
            self._singles.watch(name, getattr(self.container, name) if server is None
                                else partial(self._begin_single, server))

    async def _start_server(self, serving: Serving) -> None:
        self._begin(f"server {serving.name!r} ({serving.protocol}): its start")
        await serving.start(self._context(serving.name))

    async def _accept(self, serving: Serving, balance: Balance | None) -> None:
        await serving.accept(
            self.connections, self.loop, self.log.error_log, balance,
            self.cfg.worker_connections, self.slot, self._terminators,
        )

    def _see_singles(self, servers: dict[str, Serving]) -> None:
        self._once = see_singles(self.container, {
            name: [listener.address for listener in serving.listeners]
            for name, serving in servers.items()})
        self._singles = Singles(
            self.runtime.path / "single", self.name, self.log.error_log,
            # Of the generation that serves, or a newer one.
            lambda: not self._retiring.is_set()
            and self.row.generation >= self.scoreboard.fleet(Fleet.GENERATION),
            self._retiring.set)

    async def _begin_single(self, serving: Serving) -> None:
        """This worker is the only one for that server now."""
        await serving.start(self._context(serving.name))
        await self._accept(serving, None)

    async def _end_single(self, name: str, over: bool) -> None:
        """Leave a server, or a job, to another worker, if what there is of it here is `over`."""
        if await self._singles.end(name) and over:
            self._singles.release(name)

    def _adopt(self, made: Any) -> None:
        """Pair the user's servers with the listeners, and adapt each."""
        registry = Registry.from_entry_points()
        by_bind: dict[str, list[Listener]] = {}
        for listener in self.sockets:
            by_bind.setdefault(listener.name, []).append(listener)
        for name, served, binds in match_servers(made, list(by_bind)):
            listeners = [listener for bind in binds for listener in by_bind[bind]]
            kind = one_kind(name, (listener.kind for listener in listeners))
            self.servers[name] = Serving(name, registry.adapt(served, kind, name), listeners)
        self._options = {
            name: server_options(self.container.config, name, self.servers, serving.server)
            for name, serving in self.servers.items()
        }
        self.container.servers = {
            name: serving.server for name, serving in self.servers.items()
        }

    async def _start_ancestor(self) -> None:
        pairs = await self._call("make_servers", self.sockets)
        for listener in self.sockets:
            # asyncio's create_server(sock=...) listens again, with a backlog of its own.
            listener.listen(self.cfg.backlog)
        server = AncestorServer(dict(pairs or {}))
        name = self.sockets[0].name if self.sockets else "asyncio"
        self.servers[name] = Serving(name, server, self.sockets)
        self.container.servers = dict(pairs or {})

    def _own_servers(self) -> list[Serving]:
        return [serving for serving in self.servers.values() if not serving.is_shell]

    def _common_servers(self) -> list[Serving]:
        """Those that every worker has."""
        return [serving for serving in self._own_servers() if serving.name not in self._once]

    def _context(self, name: str) -> ServerContext:
        cfg = self.cfg
        return ServerContext(
            name=name, container=self.container, loop=self.loop, logger=self.log.error_log,
            keepalive=cfg.keepalive, linger=cfg.worker_linger,
            graceful_timeout=float(cfg.graceful_timeout),
            access_log=self.log.access_log if cfg.accesslog else None,
            access_log_format=cfg.access_log_format, debug=cfg.debug,
            limits=cfg.request_limits, options=self._options[name],
        )

    def report_failure(self, error: BaseException, detail: str = "") -> None:
        """Tell the arbiter why this worker will not serve; `detail` instead of a traceback."""
        self.exit_code = BOOT_FAILED
        message = str(error) if isinstance(error, ApihourError) else one_line(repr(error))
        detail = detail or user_traceback(error)
        self.channel.send(
            event="failed", message=excerpt(message, LINE), detail=excerpt(detail, DETAIL))

    # -- heartbeat and numbers -------------------------------------------------------------

    def _count_connections(self, count: int) -> None:
        self.row.connections = count
        self.row.accepted = self.connections.accepted

    def _schedule_beat(self) -> None:
        self._beat_due = time.monotonic() + BEAT
        self.loop.call_later(BEAT, self._on_beat)

    def _on_beat(self) -> None:
        row, now = self.row, time.monotonic()
        self.beat = row.heartbeat = now
        row.lag = max(0.0, now - self._beat_due)
        requests = errors = refused = 0
        for serving in self.servers.values():
            # Noted for the agent, which reads them while the loop is blocked.
            numbers = serving.numbers = serving.statistics()
            requests += numbers.get("requests", 0)
            errors += (numbers.get("responses") or {}).get("5xx", 0)
            refused += serving.refused
        row.requests, row.errors, row.refused = requests, errors, refused
        self.bans.look()
        row.lost_lines = lost_lines(self.log)
        if row.state == State.DRAINING:
            row.left = len(self.connections)
        elif self.booted and row.accepting:
            self._balance.refresh()
            served = {int(other.slot) for other in self._balance.rows} | {self.slot}
            for serving in self.servers.values():
                serving.mind_slots(served, int(self.scoreboard.fleet(Fleet.WANTED)), now)
        self._schedule_beat()

    def _neighbours(self) -> list[Row]:
        """The other workers of this daemon that accept and are alive."""
        oldest = time.monotonic() - _FOREIGN_AGE
        return [
            row for row in self.scoreboard.used()
            if row.accepting and row.heartbeat > oldest and row.index != self.row.index
        ]

    # -- leaving ---------------------------------------------------------------------------

    def _listen_to_arbiter(self) -> None:
        loop = self.loop
        loop.add_signal_handler(signal.SIGTERM, self._retiring.set)
        loop.add_signal_handler(signal.SIGINT, self._quit)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        handle_in_loop(loop, signal.SIGUSR1, self.log.reopen_files)
        loop.add_reader(self.channel.fileno(), self._on_channel)

    def _on_channel(self) -> None:
        messages = self.channel.receive()
        if messages is None:
            self.loop.remove_reader(self.channel.fileno())
            if not self._retiring.is_set():
                self.log.warning("Worker %s: the arbiter is gone, retiring", self.name)
            self._orphaned = True
            self._retiring.set()
            return
        for message in messages:
            if message.get("command") == "suspend":
                self._suspend(True)
            elif message.get("command") == "resume":
                self._suspend(False)
            elif message.get("command") == "follow":
                self._follow(str(message.get("scoreboard")))

    def _follow(self, scoreboard: str) -> None:
        """The runtime directory had vanished, and the arbiter has made it again."""
        try:
            self.scoreboard.follow(scoreboard, self.row)
            self.runtime.join()
            if self._agent is None:
                faults.register(self.runtime, self.pid)
        except OSError as error:  # it has vanished again: then we are told again
            self.log.warning("Worker %s: %s", self.name, error)

    def _suspend(self, suspended: bool) -> None:
        """Stop accepting for now, or go on; what is connected stays connected."""
        for serving in self._common_servers():  # nobody else accepts for the others
            serving.suspend(suspended)
        if self.booted and not self._retiring.is_set():
            self.row.accepting = 0.0 if suspended else 1.0

    def _quit(self) -> None:
        self._quick = True
        self.cfg.worker_int(self)
        self._retiring.set()
        self._quitting.set()

    async def _retire(self) -> None:
        """Stop accepting, say goodbye, wait until the last connection is gone or the deadline."""
        row = self.row
        row.accepting = 0.0
        row.state = State.DRAINING
        timeout = float(self.cfg.graceful_timeout)
        row.deadline = time.monotonic() + timeout
        row.drain_total = row.left = len(self.connections)
        last = bool(self.scoreboard.fleet(Fleet.UNREADY)) and not self._quick
        for serving in self._own_servers():
            serving.stop_accepting(last)
        if self._quick:
            return
        deadline = self.loop.time() + timeout
        goodbyes: list[Awaitable[Any]] = [
            self._drain(serving, deadline) for serving in self._own_servers()
        ]
        draining = asyncio.gather(
            *goodbyes,
            *(self._end_single(name, True) for name in self._once if name not in self.servers),
            call_hook(self.container, "shutdown"), return_exceptions=True
        )
        quitting = asyncio.ensure_future(self._quitting.wait())
        waiting: set[asyncio.Future[Any]] = {draining, quitting}
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        quitting.cancel()
        if draining.done():
            for outcome in draining.result():
                if isinstance(outcome, Exception):
                    self.log.error("Worker %s: %s", self.name, outcome)
        else:
            draining.cancel()
            # Waited for: what is cancelled unheard is reported as an exception nobody took.
            await asyncio.wait({draining}, timeout=_HEED)
            if draining.done() and not draining.cancelled():
                draining.exception()
            self.log.warning(
                "Worker %s: %d connections left at the end of its drain, closing them",
                self.name, len(self.connections),
            )

    async def _drain(self, serving: Serving, deadline: float) -> None:
        if self._orphaned and serving.is_datagram:
            # Until it is closed nobody else can bind the address, and a new daemon waits.
            deadline = min(deadline, self.loop.time() + _ORPHAN_BIND)
        exclusive = self._once.get(serving.name)
        if exclusive is not None:
            await self._end_single(serving.name, not exclusive)
            if not serving.started:
                return  # it is in another worker
        try:
            await serving.drain(deadline)
        except Exception:
            self.log.exception("server %r: its drain failed", serving.name)
        if exclusive:
            await serving.stop()
            self._singles.release(serving.name)

    async def _leave(self) -> None:
        """Stop the servers and the container, also after a partial start."""
        self.row.state = State.EXITING
        self.row.accepting = 0.0
        for name in self._once:
            await self._end_single(name, False)
        for serving in self._own_servers():
            if serving.started:
                try:
                    await serving.stop()
                except Exception:
                    self.log.exception("server %r: its stop failed", serving.name)
        for conn in self.connections:
            conn.close("worker leaves")
        await asyncio.sleep(0)  # aborted transports say so in the next turn
        if self.container is None:
            return
        try:
            await call_hook(self.container, "cleanup")
        except Exception as error:
            self.log.error("Worker %s: %s", self.name, error)
        await self.container.close_made()
