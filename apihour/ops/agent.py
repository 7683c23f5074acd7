"""The agent: a small thread in each worker that answers the console, whatever the loop does.

Rules:

- It serves :mod:`apihour.ipc.wire` on the 0600 unix socket of its worker, to peers of its own
  uid or root (SO_PEERCRED, unix(7)), and checks the role against its own catalogue.
- It never computes for more than a slice at a stretch: commands that run in it are
  generators, worked a slice at a time; between slices the loop has the interpreter.
- Commands of the loop are handed to it with a deadline. When it does not answer, the
  caller learns for how long it has been blocked, and where.
- Idle, it wakes five times a second: to watch the loop, and its parent.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from apihour.ipc import faults
from apihour.ipc.peer_socket import PeerListener
from apihour.ipc.scoreboard import WorkerState
from apihour.ipc.wire import FrameError
from apihour.ops.agent_client import AgentClient
from apihour.ops.blocking import BlockingLog
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.ops.commands.context import AgentContext, WorkerView
from apihour.ops.jobs import Job, LoopJob, check_arguments, failure, place_arguments, steps_of
from apihour.ops.logring import LogRing
from apihour.ops.model import CommandFailed, Role
from apihour.ops.stacks import LoopWatch, place_of, places
from apihour.ops.taskbook import TaskBook
from apihour.ops.telling import Teller

__all__ = ["Agent"]

_LOOK = 1.0  # seconds between two looks whether its files are still there
_SLICE = 0.001  # seconds of computing at a stretch; a 300 ms burst was felt by every client
_CLIENTS = 32  # connections at a time; consoles keep one each
_REQUESTS = 64  # requests under way per connection


class Agent:
    """The thread. ``start()`` in the worker's loop thread, ``stop()`` before it exits."""

    def __init__(self, worker: WorkerView, catalogue: Catalogue | None = None) -> None:
        self.worker = worker
        self.catalogue = catalogue if catalogue is not None else built_in()
        self.application = Catalogue()
        self.sessions: dict[str, Any] = {}
        self.memory: dict[tuple[str, int], int] = {}
        self.tasks = TaskBook()
        self.watch = LoopWatch(worker)
        self.watch.is_starting = lambda: worker.row.state == WorkerState.STARTING
        self._blocking = BlockingLog(getattr(worker.log, "error_log", logging.getLogger()))
        self.ring = LogRing()
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self._clients: set[AgentClient] = set()
        self._posted: collections.deque[tuple[LoopJob, dict[str, Any]]] = collections.deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._stopping = False
        self._parent = os.getppid()
        self._orphaned = 0.0
        self._next_look = 0.0
        self._path = worker.runtime.agent_socket(worker.pid)
        self._listener: PeerListener | None = None
        self._stack_fd = -1
        self.later(TaskBook.EVERY, self._note_tasks)
        self._thread = threading.Thread(target=self._run, name="apihour-agent", daemon=True)

    def adopt(self, container: Any) -> None:
        """Learn the container's own commands. Raises ConfigurationError naming a wrong one."""
        own = Catalogue.of(container)
        self.catalogue.update(own)
        self.application = own

    def listen(self) -> None:
        """The application is up: its log records are kept too, and blocks of its loop told.

        Not before: ``logging.basicConfig()`` does nothing when the root logger has a handler.
        """
        self.ring.attach(logging.getLogger())
        self.watch.on_block = functools.partial(self._blocking.tell, self.worker.name)

    def start(self) -> None:
        """Open the socket and start the thread. Raises OSError when the socket cannot be made."""
        self._stack_fd = faults.register(self.worker.runtime, self.worker.pid)
        self._listener = self._listen()
        for sock in (self._wake_out, self._wake_in):
            sock.setblocking(False)
        self.selector.register(self._wake_out, selectors.EVENT_READ, self._woken)
        if (log := getattr(self.worker.log, "error_log", None)) is not None:
            self.ring.attach(log)
            log.addHandler(Teller(self.worker.channel.send))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:  # the thread inherits the mask: signals are the main thread's alone
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _listen(self) -> PeerListener:
        listener = PeerListener(
            self.worker.runtime.agent_socket(self.worker.pid), _CLIENTS, refused=self._refused)
        self.selector.register(listener.sock, selectors.EVENT_READ, self._accept)
        return listener

    def _refused(self, uid: int) -> None:
        self.worker.log.warning("agent: refused a connection of uid %d", uid)

    def _mend(self) -> None:
        """Listen again, and write stacks, where the runtime directory vanished and is back."""
        stack = faults.stack_path(self.worker.runtime, self.worker.pid)
        if self._stopping or not self.worker.runtime.path.is_dir() or (
            self._path.exists() and stack.exists()
        ):
            return
        before = self._listener
        try:
            self._listener = self._listen()
            if before is not None:
                self.selector.unregister(before.sock)
                before.close()
            stack_fd = faults.register(self.worker.runtime, self.worker.pid)
        except OSError:  # it goes in this moment, or is full: the next look tells
            return
        os.close(self._stack_fd)
        self._stack_fd = stack_fd

    def stop(self) -> None:
        """End the thread and take its files away; waits for at most a second."""
        self._stopping = True
        self.wake()
        self._thread.join(1.0)
        self.ring.detach()
        faults.unregister(self.worker.runtime, self.worker.pid, self._stack_fd)
        self._path.unlink(missing_ok=True)

    # what other threads call

    def wake(self) -> None:
        """Make the thread look at what was posted."""
        try:
            self._wake_in.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # full: it is awake already; closed: it is gone

    def post(self, job: LoopJob, reply: dict[str, Any]) -> None:
        """Hand over a reply made in the loop."""
        self._posted.append((job, reply))
        self.wake()

    def in_loop(self, function: Callable[[], Any]) -> bool:
        """Have the loop call `function`; False when there is none, or it is closed."""
        try:
            if self.worker.loop is not None:
                self.worker.loop.call_soon_threadsafe(function)
                return True
        except RuntimeError:
            pass
        return False

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` in the agent's thread after that many seconds."""
        self.timers.append((time.monotonic() + seconds, function))

    # the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, mask in self.selector.select(self._timeout()):
                    self._handle(key, mask)
                self._deliver()
                self._work()
                self._tick()
        except Exception:
            self.worker.log.exception("agent of worker %s has ended", self.worker.name)
        finally:
            for client in list(self._clients):
                self._close(client)
            for sock in (self._listener, self._wake_out, self._wake_in):
                if sock is not None:
                    sock.close()
            self.selector.close()

    def _handle(self, key: selectors.SelectorKey, mask: int) -> None:
        client = getattr(key.data, "__self__", None)
        try:
            key.data(mask)
        except (OSError, EOFError, FrameError) as error:
            if not isinstance(client, AgentClient):
                raise
            if isinstance(error, FrameError):
                self.worker.log.warning("agent: a peer sent what is no request: %s", error)
            self._close(client)

    def _timeout(self) -> float:
        now = time.monotonic()
        due = self.watch.step(now)
        for client in self._clients:
            for job in client.jobs.values():
                if not (isinstance(job, Job) and client.is_full):
                    due = min(due, job.due)
        due = min([due, *(at for at, _ in self.timers)])
        return max(_SLICE, due - now)  # never 0: between slices the loop has its turn

    def _accept(self, mask: int) -> None:
        assert self._listener is not None
        sock = self._listener.accept(len(self._clients))
        if sock is None:
            return
        client = AgentClient(self, sock)
        self._clients.add(client)
        self.selector.register(sock, selectors.EVENT_READ, client.ready)

    def _close(self, client: AgentClient) -> None:
        self._clients.discard(client)
        for job in client.jobs.values():
            job.cancel()
        client.jobs.clear()
        self.selector.unregister(client.sock)
        client.sock.close()

    def _woken(self, mask: int) -> None:
        self._wake_out.recv(4096)

    def _deliver(self) -> None:
        while self._posted:
            job, reply = self._posted.popleft()
            if job.client.jobs.get(job.number) is job:
                if "item" not in reply:
                    del job.client.jobs[job.number]
                job.client.reply(job.number, **reply)

    def _work(self) -> None:
        now = time.monotonic()
        until = now + _SLICE
        for client in list(self._clients):
            for number, job in list(client.jobs.items()):
                if job.due > now or (isinstance(job, Job) and client.is_full):
                    continue
                if isinstance(job, LoopJob):
                    self._expire(job)
                elif self._advance(job, until):
                    client.jobs.pop(number, None)

    def _advance(self, job: Job, until: float) -> bool:
        try:
            job.due = 0.0
            over = job.work(until)
        except Exception as error:
            job.client.reply(job.number, **failure(error))
            return True
        if over:
            job.client.reply(job.number, end=True)
        return over

    def _expire(self, job: LoopJob) -> None:
        if job.task is not None and job.last > time.monotonic():
            job.due = job.last  # it has begun: it has all of its time
            return
        job.cancel()
        del job.client.jobs[job.number]
        blocked, kind = self.watch.blocked(), "lost" if job.task is not None else "timeout"
        message = f"did not finish within {time.monotonic() - job.begun:.1f} s"
        if blocked or job.task is None:
            where = place_of(places(self.watch.frame()))
            since = max(blocked, time.monotonic() - job.begun)
            message = f"the loop has been blocked for {since:.1f} s in {where}"
        job.client.reply(job.number, error=message, kind=kind)

    def _tick(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self.timers if entry[0] <= now]
        for entry in due:
            self.timers.remove(entry)
            entry[1]()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            self._mend()
        if os.getppid() == self._parent:
            return
        self._orphaned = self._orphaned or now
        grace = float(getattr(self.worker.cfg, "graceful_timeout", 30.0))
        if now - self._orphaned >= grace - 1.0 and self.watch.blocked() >= 1.0:
            self._end_orphan()

    def _note_tasks(self) -> None:
        """Look at the tasks, for their age, while they are few."""
        self.later(TaskBook.EVERY, self._note_tasks)
        loop = self.worker.loop
        if loop is not None and len(self.worker.connections) <= TaskBook.FEW:
            there = asyncio.all_tasks(loop)
            if len(there) <= TaskBook.FEW:
                self.tasks.look(there)

    def _end_orphan(self) -> None:
        """A healthy orphan leaves by itself; a blocked one cannot."""
        self.worker.log.error(
            "worker %s (pid %d): the arbiter is gone and the loop is blocked in %s; ended",
            self.worker.name, self.worker.pid, place_of(places(self.watch.frame())),
        )
        os.kill(os.getpid(), signal.SIGKILL)

    # requests

    def dispatch(self, client: AgentClient, message: dict[str, Any]) -> None:
        """Begin one request, or cancel one."""
        number = message.get("id")
        if message.get("cancel"):
            job = client.jobs.pop(number, None)
            if job is not None:
                job.cancel()
                client.reply(number, error="cancelled", kind="failed")
            return
        try:
            client.jobs[number] = self._begin(client, number, message)
        except Exception as error:
            client.reply(number, **failure(error))

    def _begin(self, client: AgentClient, number: Any, message: dict[str, Any]) -> Job | LoopJob:
        if not isinstance(number, int) or number in client.jobs:
            raise CommandFailed(f"request id {number!r:.40}: expected a new integer", "usage")
        if len(client.jobs) >= _REQUESTS:
            raise CommandFailed(f"{_REQUESTS} requests are under way already; try later")
        name = str(message.get("command"))
        entry = self.catalogue.entry(name)
        if entry is None or entry.function is None:
            raise CommandFailed(f"{name!r:.60}: no such command in this worker", "unknown")
        role = Role.parse(str(message.get("role")))
        if role < entry.command.role:
            raise CommandFailed(f"{name}: needs role {entry.command.role}, not {role}", "role")
        arguments = check_arguments(entry.command, message.get("arguments") or {})
        context = AgentContext(self, self.worker, role, self.watch, self.ring)
        own = () if entry.command.application else (context,)
        positional, options = place_arguments(entry.command, arguments)

        def call() -> Any:
            return entry.function(*own, *positional, **options)  # type: ignore[misc]

        if entry.command.collects == "loop":
            seconds = float(message.get("deadline") or entry.command.time_allowed(arguments))
            job = LoopJob(client, number, None if entry.command.streams else seconds, call)
            if not self.in_loop(job.begin):
                raise CommandFailed("there is no loop: the worker starts, or is about to exit")
            return job
        return Job(client, number, steps_of(call))
