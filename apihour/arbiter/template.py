"""The template: a process that has imported the application, and forks workers on request.

Rules:

- The probe becomes the template, so each generation imports the application exactly once;
  a worker that is replaced later runs the code of its generation, whatever lies on the disk.
- The arbiter stays the parent of every worker: the template forks twice, and the kernel hands
  the orphan to the nearest subreaper, the arbiter (PR_SET_CHILD_SUBREAPER of prctl(2)).
- What belongs to one worker travels with the order for it: its row, its channel, its
  listeners, as descriptors (SCM_RIGHTS of unix(7)). The template holds nothing that listens.
- A forked worker touches nothing before the arbiter, having heard its pid, lets it go.
- It is never needed: where it is missing, dead or silent, the arbiter forks by itself.

A module that starts a thread when it is imported cannot be forked from: such an application
is served without a template, with a warning. Linux only.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from apihour.app.examine import examine
from apihour.arbiter.priority import yield_for_good
from apihour.arbiter.probe import Probe
from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener
from apihour.errors import ConfigurationError
from apihour.ipc.channel import Channel
from apihour.ipc.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from apihour.ipc.private import set_process_title
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Fleet, Scoreboard
from apihour.ipc.signals import fork_blocked
from apihour.plugins import Registry
from apihour.worker.process import BLOCKED, HostWorker

if TYPE_CHECKING:
    from apihour.arbiter.arbiter import HostArbiter

__all__ = ["TemplateProbe", "Templates"]

_PATIENCE = 1.0  # seconds an order may take; a fork takes milliseconds, so it hangs or is stopped
_PER_PACKET = 64  # listeners in one packet; the kernel takes 253 descriptors (SCM_MAX_FD)
_PACKET = 65536  # bytes of one packet at most
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0  # seconds until a dead template is made anew, doubling
_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_PID = struct.Struct("=q")
_INT = array.array("i").itemsize


class TemplateProbe(Probe):
    """A probe that stays as the template, if the configuration it has read says so."""

    def __init__(self, arbiter: HostArbiter) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        yields = arbiter.is_replacing()

        def in_child() -> None:
            arbiter.shed()
            _end_with(arbiter.pid)
            for listener in arbiter.LISTENERS:
                listener.close()  # an import that outlives the arbiter must not hold them
            ours.close()
            _forget_environment(arbiter)

        def look() -> dict[str, list[str]] | None:
            def configured() -> None:
                if yields and not arbiter.app.cfg.template:
                    yield_for_good()

            binds: dict[str, list[str]] | None = examine(arbiter.app, configured)
            if arbiter.app.cfg.template:
                _refuse_elsewhere()
                theirs.send(json.dumps({"threads": threading.active_count()}).encode())
            return binds

        def afterwards() -> None:
            if arbiter.app.cfg.template and threading.active_count() == 1:
                try:
                    _serve(arbiter, theirs)
                except Exception:
                    arbiter.log.exception("Exception in the template")

        try:
            super().__init__(look, in_child, afterwards)
        except OSError:
            ours.close()
            theirs.close()
            raise
        if yields:
            arbiter.priority.lower(self.pid, os.geteuid(), arbiter.cfg.boot_timeout)
        theirs.close()
        self._line: socket.socket | None = ours

    def hello(self) -> dict[str, Any] | None:
        """What it says of itself before its report when it wants to stay; else None."""
        if self._line is None:
            return None
        try:
            data = self._line.recv(_PACKET)
        except (BlockingIOError, ConnectionError):
            return None
        return dict(json.loads(data)) if data else None

    def take_line(self) -> socket.socket:
        """Take over the end of the line to it; it lives as long as that is open."""
        assert self._line is not None
        line, self._line = self._line, None
        return line

    def close(self) -> None:
        super().close()
        if self._line is not None:
            self._line.close()
            self._line = None


class _Template:
    """The arbiter's view of one template."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.line = line

    def fork(self, order: dict[str, Any], channel: Channel, listeners: list[Listener]) -> int:
        """Order a worker; returns its pid. Raises OSError when the system has no room for it.

        Raises _SilentError when no answer comes; what may have been forked ends by itself.
        """
        hold, release = os.pipe()
        try:
            self._send(order, [hold, channel.fileno()], listeners)
            pid = self._answer()
            if pid > 0:
                os.write(release, b"g")
        finally:
            os.close(hold)
            os.close(release)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _send(self, order: dict[str, Any], fds: list[int], listeners: list[Listener]) -> None:
        parts = [listeners[i : i + _PER_PACKET] for i in range(0, len(listeners), _PER_PACKET)]
        for index, part in enumerate(parts or [[]]):
            packet = {
                **order, "more": index + 1 < len(parts),
                "listeners": [[x.name, str(x.address), x.owns_path, x.slot] for x in part],
            }
            sent = [*(fds if index == 0 else []), *(x.fileno() for x in part)]
            try:
                socket.send_fds(self.line, [json.dumps(packet).encode()], sent)
            except OSError as error:
                raise _SilentError(f"takes no order: {error.strerror}") from error

    def _answer(self) -> int:
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            raise _SilentError(f"did not answer within {_PATIENCE:g} s")
        try:
            data = self.line.recv(_PID.size)
        except ConnectionError:
            data = b""
        if len(data) < _PID.size:
            raise _SilentError("died")
        pid: int = _PID.unpack(data)[0]
        return pid


class _SilentError(Exception):
    """The template gave no answer."""


class Templates:
    """The templates there are, by generation: one, or two while a reload is under way."""

    def __init__(self, arbiter: HostArbiter) -> None:
        self.arbiter = arbiter
        self._living: dict[int, _Template] = {}
        self._lost: set[int] = set()
        self._again: TemplateProbe | None = None
        self._again_since = 0.0
        self._delay = _FIRST_RETRY
        self._not_before = 0.0

    @property
    def pids(self) -> list[int]:
        """The processes that are templates now."""
        return [template.pid for template in self._living.values()]

    def settle(self, generation: int, probe: TemplateProbe) -> bool:
        """After its good report: whether the probe stays, as the template of `generation`."""
        hello = probe.hello()
        if hello is None or probe.report is None or probe.report.error:
            return False
        arbiter = self.arbiter
        if hello["threads"] > 1:
            arbiter.log.warning(
                "No template: the application starts %d threads when it is imported, and a fork "
                "has none of them; every worker imports it by itself", hello["threads"] - 1)
            return False
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        arbiter.priority.restore(probe.pid)
        self._living[generation] = _Template(probe.pid, probe.take_line())
        self._lost.discard(generation)
        arbiter.probes.discard(probe.pid)
        arbiter.log.info("Template of generation %d ready (pid: %s)", generation, probe.pid)
        return True

    def fork(self, worker: HostWorker, channel: Channel) -> int:
        """Fork `worker` with its end of the channel; returns its pid, 0 without a template.

        Raises OSError when the system has no room for a process.
        """
        template = self._living.get(worker.generation)
        if template is None:
            return 0
        arbiter = self.arbiter
        order = {
            "slot": worker.slot, "generation": worker.generation, "age": worker.age,
            "row": worker.row.index, "scoreboard": str(arbiter.runtime.scoreboard(arbiter.pid)),
            "runtime": str(arbiter.runtime.path),
        }
        try:
            return template.fork(order, channel, worker.sockets)
        except _SilentError as error:
            self._lose(worker.generation, str(error))
            return 0

    def on_exit(self, pid: int) -> bool:
        """The arbiter reaped `pid`: whether that was a template."""
        for generation, template in self._living.items():
            if template.pid == pid:
                self._lose(generation, "died")
                self.arbiter.probes.discard(pid)
                return True
        return False

    def _lose(self, generation: int, why: str) -> None:
        self.arbiter.log.warning(
            "Template of generation %d (pid: %s) %s; workers import the application until there "
            "is another, in %.0f s", generation, self._living[generation].pid, why, self._delay)
        self.drop(generation)
        self._lost.add(generation)
        self._not_before = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LAST_RETRY)

    def drop(self, generation: int) -> None:
        """End the template of a generation, if there is one."""
        self._lost.discard(generation)
        template = self._living.pop(generation, None)
        if template is None:
            return
        template.line.close()
        self.arbiter.probes.add(template.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(template.pid, signal.SIGKILL)  # also one that is stopped

    def keep_only(self, generation: int) -> None:
        """After a reload: the others' generations fork no more."""
        for other in [*self._living, *self._lost]:
            if other != generation:
                self.drop(other)
        self._delay = _FIRST_RETRY
        self._publish()

    def _publish(self) -> None:
        present = self._living.get(self.arbiter.generation)
        self.arbiter.scoreboard.set_fleet(Fleet.TEMPLATE, present.pid if present else 0)

    def end(self) -> None:
        """The daemon stops."""
        self._cancel()
        for generation in list(self._living):
            self.drop(generation)

    # -- one that died is made again -------------------------------------------------------

    def keep(self) -> None:
        """Make a lost template of the present generation again; never blocks."""
        arbiter = self.arbiter
        self._publish()
        if arbiter.stopping or arbiter.changes.reload is not None:
            self._cancel()
        elif self._again is not None:
            self._advance(self._again)
        elif arbiter.generation in self._lost and time.monotonic() >= self._not_before:
            self._again_since = time.monotonic()
            try:
                self._again = TemplateProbe(arbiter)
            except OSError as error:
                self._not_before = time.monotonic() + self._delay
                arbiter.log.error("No template: no new process: %s", error.strerror)
                return
            arbiter.probes.add(self._again.pid)

    def _advance(self, probe: TemplateProbe) -> None:
        report = probe.poll()
        limit = self.arbiter.cfg.boot_timeout
        if report is None:
            if time.monotonic() - self._again_since <= limit:
                return
            error = f"the application did not import within {limit:g} s"
        else:
            error = report.error
        if error:
            self._lost.discard(self.arbiter.generation)
            self.arbiter.log.error("No template until the next reload: %s", error)
            self._cancel()
            return
        if not self.settle(self.arbiter.generation, probe):
            self._lost.discard(self.arbiter.generation)
        probe.close()
        self._again = None

    def _cancel(self) -> None:
        if self._again is not None:
            self._again.kill()
            self._again.close()
            self._again = None

    def descriptors(self) -> list[int]:
        """What the arbiter's turn waits for."""
        return [self._again.fileno()] if self._again is not None else []

    def close_inherited(self) -> None:
        """In a child of the arbiter: let go of the lines, which are its own."""
        for template in self._living.values():
            template.line.close()
        if self._again is not None:
            self._again.close()


# The template's own side


def _end_with(arbiter: int) -> None:
    """End with the arbiter of that pid, whatever is being done then."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != arbiter:
            os._exit(1)


def _refuse_elsewhere() -> None:
    if sys.platform != "linux":
        raise ConfigurationError(
            f"--template: refused on {sys.platform!r}; it needs Linux, for workers that were "
            "forked elsewhere to be the arbiter's children"
        )


def _forget_environment(arbiter: HostArbiter) -> None:
    """Undo what the present configuration has put there: the new one may do without."""
    for key in arbiter.cfg.env:
        if key in arbiter.cfg.env_orig:
            os.environ[key] = arbiter.cfg.env_orig[key]
        else:
            os.environ.pop(key, None)


def _serve(arbiter: HostArbiter, line: socket.socket) -> None:
    """Life of the template: fork on request until the arbiter closes the line."""
    for sig in _TERMINAL:
        signal.signal(sig, signal.SIG_IGN)  # a Ctrl-C is the arbiter's to obey
    arbiter.cfg = arbiter.app.cfg
    arbiter.log.setup(arbiter.cfg)
    set_process_title(f"template {arbiter.cfg.proc_name}")
    _warm(arbiter)
    gc.collect()
    gc.freeze()  # the collector would write into every page, and so unshare it
    while (order := _receive(line)) is not None:
        answer = _fork_twice(partial(_become, arbiter, line, *order))
        for fd in order[1]:
            os.close(fd)
        line.send(_PID.pack(answer))


def _warm(arbiter: HostArbiter) -> None:
    """Import what every worker would import by itself after the application."""
    Registry.from_entry_points()
    if not arbiter.cfg.no_console:
        importlib.import_module("apihour.ops.agent")
    with contextlib.suppress(ImportError):
        importlib.import_module("uvloop")


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """One order, of as many packets as it takes; None once the arbiter is gone."""
    facts: dict[str, Any] = {"more": True, "listeners": []}
    received: list[int] = []
    while facts["more"]:
        # Not socket.recv_fds(), which forgets its flags.
        space = socket.CMSG_SPACE((_PER_PACKET + 2) * _INT)
        data, ancillary, _, _ = line.recvmsg(_PACKET, space, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return None
        fds = array.array("i")
        for _, _, passed in ancillary:
            fds.frombytes(passed)
        packet = json.loads(data)
        packet["listeners"] = [*facts["listeners"], *packet["listeners"]]
        facts = packet
        received += fds
    return facts, received


def _fork_twice(run: Callable[[], None]) -> int:
    """Run in a grandchild that is its own parent's no more; its pid, or minus the errno."""
    reading, writing = os.pipe()
    try:
        middle = fork_blocked(BLOCKED)
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return -(error.errno or 1)
    if middle == 0:
        try:
            answer = os.fork()
        except OSError as error:
            answer = -(error.errno or 1)
        if answer == 0:
            os.close(reading)
            os.close(writing)
            run()
        os.write(writing, _PID.pack(answer))
        os._exit(0)
    os.close(writing)
    # Once it is reaped its child has its new parent.
    os.waitpid(middle, 0)
    data = os.read(reading, _PID.size)
    os.close(reading)
    pid: int = _PID.unpack(data)[0]
    return pid


def _become(
    arbiter: HostArbiter, line: socket.socket, facts: dict[str, Any], fds: list[int]
) -> None:
    """The worker's side of an order; never returns."""
    try:
        line.close()
        hold, channel, *sockets = fds
        if not os.read(hold, 1):
            os._exit(0)  # the arbiter knows nothing of this process
        os.close(hold)
        arbiter.log.reopen_files()  # they may have been rotated since the template opened them
        worker = _make_worker(arbiter, facts, [
            _listener(entry, fd) for entry, fd in zip(facts["listeners"], sockets, strict=True)
        ])
        worker.channel = Channel(socket.socket(fileno=channel))
    except BaseException:
        arbiter.log.exception("Exception in a worker forked from the template")
        os._exit(1)
    arbiter.children.become(worker, _nothing)


def _nothing() -> None:
    """The template has shed already what belongs to the arbiter."""


def _make_worker(
    arbiter: HostArbiter, facts: dict[str, Any], listeners: list[Listener]
) -> HostWorker:
    cfg = arbiter.cfg
    worker = HostWorker(
        facts["age"], arbiter.pid, listeners, arbiter.app, cfg.timeout / 2.0, cfg, arbiter.log
    )
    worker.slot, worker.generation = facts["slot"], facts["generation"]
    worker.scoreboard = Scoreboard.open(facts["scoreboard"])
    worker.row = worker.scoreboard.rows[facts["row"]]
    worker.name = worker.row.worker
    worker.runtime = Runtime(facts["runtime"])
    worker.runtime.join()  # the template was forked before there was a lock to inherit
    worker.with_agent = not cfg.no_console
    return worker


def _listener(entry: list[Any], fd: int) -> Listener:
    name, address, owns_path, slot = entry
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return Listener(name, parse_address(address), sock, owns_path, slot)
