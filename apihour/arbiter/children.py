"""The arbiter's worker processes: forked, heard, retired, mourned.

Rules:

- A worker that retires leaves the books at once and is followed to its own deadline.
- What a worker said before it ended is heard before it is forgotten.
- A worker that dies by itself is replaced; one that fails before the first start is through
  ends the start.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apihour.bind.listeners import Listener
from apihour.blame import blame
from apihour.errors import HookError
from apihour.ipc import faults
from apihour.ipc.channel import Channel
from apihour.ipc.scoreboard import Fleet
from apihour.ipc.signals import fork_blocked
from apihour.worker.process import BLOCKED, HostWorker

if TYPE_CHECKING:
    from apihour.arbiter.arbiter import HostArbiter

__all__ = ["KILL_MARGIN", "Children", "describe"]

KILL_MARGIN = 2.0  # seconds after its drain deadline until a retiring worker is killed
_RETIRE = int(signal.SIGTERM)


class Children:
    """What the arbiter does with its worker processes; their books are ``WORKERS``."""

    def __init__(self, arbiter: HostArbiter) -> None:
        self.arbiter = arbiter

    def hear(self, worker: HostWorker) -> None:
        messages = worker.channel.receive()
        if messages is None:
            worker.channel_open = False
            return
        for message in messages:
            if message.get("event") == "ready":
                self._on_ready(worker, message)
            elif message.get("event") == "begun":
                worker.under_way = str(message.get("what"))
            elif message.get("event") == "failed":
                worker.failure = (str(message.get("message")), str(message.get("detail", "")))

    def _on_ready(self, worker: HostWorker, message: dict[str, Any]) -> None:
        self.arbiter.priority.restore(worker.pid)
        worker.ready = True
        worker.report = message
        if worker.pid in self.arbiter.retiring:
            self.send(worker, worker.told)  # it may have come too early to be heard
            return
        self.arbiter.keeper.on_ready(worker)
        self.arbiter.log.info("Worker %s ready (pid: %s)", worker.name, worker.pid)
        ready = [each for each in self.arbiter.live_workers() if each.ready]
        self.arbiter.came_up = self.arbiter.came_up or len(ready) >= self.arbiter.num_workers
        if not self.arbiter.ever_ready:
            self.arbiter.ever_ready = True
            self.arbiter.announce()
        if worker.generation == self.arbiter.generation:
            self.arbiter.consoles.manage(message)

    def spawn(
        self, slot: int, generation: int, listeners: list[Listener], cfg: Any
    ) -> HostWorker:
        """Fork one worker into a slot.

        Raises OSError or ScoreboardFullError when there is no room for it, HookError when
        pre_fork failed.
        """
        arbiter = self.arbiter
        row = arbiter.scoreboard.claim(slot, generation)
        try:
            ours, theirs = Channel.pair()
        except OSError:
            row.clear()
            raise
        arbiter.worker_age += 1
        worker = HostWorker(
            arbiter.worker_age, arbiter.pid, listeners, arbiter.app, cfg.timeout / 2.0, cfg,
            arbiter.log,
        )
        worker.slot, worker.generation = slot, generation
        worker.row = row
        worker.name = row.worker
        worker.scoreboard, worker.runtime = arbiter.scoreboard, arbiter.runtime
        worker.with_agent = not cfg.no_console
        worker.spawned = time.monotonic()
        reload = arbiter.changes.reload
        if reload is not None and generation == reload.generation:
            worker.app_state = reload.app_state
        try:
            _call_hook("pre_fork", cfg.pre_fork, arbiter, worker)
            sys.stdout.flush()
            sys.stderr.flush()
            pid = arbiter.templates.fork(worker, theirs) or self._fork()
        except BaseException:
            worker.row.clear()
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            worker.channel = theirs
            ours.close()
            self.become(worker, arbiter.shed)
        theirs.close()
        if arbiter.is_replacing():
            arbiter.priority.lower(pid, cfg.uid, cfg.boot_timeout)
        worker.channel = ours
        worker.pid = pid
        worker.row.pid = pid
        arbiter.WORKERS[pid] = worker
        arbiter._stats["workers_spawned"] += 1
        return worker

    def _fork(self) -> int:
        """Fork with the signals blocked that the arbiter's handlers would swallow in the child.

        The worker lets them through once it has handlers of its own.
        """
        return fork_blocked(BLOCKED)

    def become(self, worker: HostWorker, shed: Callable[[], None]) -> None:
        """The child's side of a spawn, which begins with `shed`; never returns."""
        try:
            shed()
            if worker.app_state is not None:
                self.arbiter.app.restore(worker.app_state)
            for listener in self.arbiter.LISTENERS:
                # One that this reload gives up would go on taking connections in here.
                if listener not in worker.sockets:
                    listener.close()
            if worker.cfg is not self.arbiter.cfg:
                worker.log.setup(worker.cfg)
            self.arbiter.log.debug("Booting worker %s with pid: %s", worker.name, os.getpid())
            _call_hook("post_fork", worker.cfg.post_fork, self.arbiter, worker)
            worker.init_process()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except HookError as error:
            worker.report_failure(error)
            status = worker.exit_code
        except BaseException:
            self.arbiter.log.exception("Exception in worker process")
            status = 1
        try:
            worker.cfg.worker_exit(self.arbiter, worker)
        except BaseException:
            self.arbiter.log.exception("hook worker_exit failed")
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def retire(self, worker: HostWorker, sig: int = _RETIRE) -> None:
        """Take a worker off the books and follow it to its own deadline."""
        if self.arbiter.WORKERS.pop(worker.pid, None) is None:
            return
        worker.kill_at = time.monotonic() + float(worker.cfg.graceful_timeout) + KILL_MARGIN
        worker.told = sig
        self.arbiter.retiring[worker.pid] = worker
        self.send(worker, sig)

    def send(self, worker: HostWorker, sig: int) -> None:
        try:
            os.kill(worker.pid, sig)
        except ProcessLookupError:
            return
        if sig in (signal.SIGTERM, signal.SIGKILL):
            self.arbiter._stats["workers_killed"] += 1

    def forget(self, worker: HostWorker) -> None:
        if worker.channel_open:
            self.hear(worker)
        worker.channel.close()
        worker.channel_open = False
        worker.row.clear()
        for path in (self.arbiter.runtime.agent_socket(worker.pid),
                     faults.stack_path(self.arbiter.runtime, worker.pid)):
            if os.path.lexists(path):
                os.unlink(path)
        try:
            worker.cfg.child_exit(self.arbiter, worker)
        except Exception:
            self.arbiter.log.exception("hook child_exit failed")

    def lost(self, worker: HostWorker, status: int) -> None:
        """A worker nobody asked to leave has ended."""
        self.forget(worker)
        reload = self.arbiter.changes.reload
        message, detail = worker.failure or (
            f"worker {worker.name} ended before it was ready ({describe(status)})", "")
        if not worker.ready and reload is not None and worker.generation == reload.generation:
            reload.on_worker_lost(worker, message, detail)
            return
        if worker.ready and reload is not None and worker.generation == reload.generation:
            reload.on_worker_lost(
                worker, f"new worker {worker.name} ended ({describe(status)})", "")
        if not worker.ready and not self.arbiter.came_up and not self._was_killed(worker, status):
            # Whichever of the first workers fails, and when, it is the start that has failed.
            self.arbiter.boot_error = (message, detail)
            return
        self.arbiter.scoreboard.count_fleet(Fleet.RESTARTS)
        delay = self.arbiter.keeper.on_lost(worker)
        log = self.arbiter.log
        if worker.ready:
            log.error("Worker %s (pid: %s) ended: %s; replacing it", worker.name, worker.pid,
                      describe(status))
        else:
            log.error("Worker %s (pid: %s) could not start: %s; next try in %.1f s",
                      worker.name, worker.pid, message, delay)
            if detail and self.arbiter.cfg.debug:
                self.arbiter.log.error("%s", detail)

    def _was_killed(self, worker: HostWorker, status: int) -> bool:
        """Whether it says nothing of the code: killed from outside while another serves."""
        return worker.failure is None and os.WIFSIGNALED(status) and any(
            each.ready for each in self.arbiter.live_workers())

    def kill_retiring(self) -> None:
        """End the retiring workers that are past their deadline."""
        now = time.monotonic()
        for worker in list(self.arbiter.retiring.values()):
            if now >= worker.kill_at:
                self.arbiter.log.warning("Worker %s (pid: %s) did not leave in time, killing it",
                                 worker.name, worker.pid)
                worker.kill_at = now + 1.0
                self.send(worker, signal.SIGKILL)


def _call_hook(name: str, hook: Callable[..., Any], *arguments: Any) -> None:
    """Call a hook of the configuration file. Raises HookError naming it and the line."""
    try:
        hook(*arguments)
    except Exception as error:
        raise HookError(f"hook {name} failed: {blame(error)}") from error


def describe(status: int) -> str:
    """A wait status for people: ``killed by SIGKILL``, ``exit status 3``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"
