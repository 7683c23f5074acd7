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

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from apihour.bind.handing_over import facts_of
from apihour.bind.listeners import Listener
from apihour.books.books import Books
from apihour.books.part import ArbiterPart, nothing
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.channel import Channel
from apihour.ipc.prctl import PR_SET_CHILD_SUBREAPER, prctl
from apihour.ipc.scoreboard import Figure
from apihour.template.process import PER_PACKET, PID
from apihour.template.template_probe import TemplateProbe

__all__ = ["Templates"]

_PATIENCE = 1.0  # seconds an order may take; a fork takes milliseconds, so it hangs or is stopped
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0  # seconds until a dead template is made anew, doubling


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
        parts = [listeners[i : i + PER_PACKET] for i in range(0, len(listeners), PER_PACKET)]
        for index, part in enumerate(parts or [[]]):
            packet = {
                **order, "more": index + 1 < len(parts),
                "listeners": [facts_of(listener) for listener in part],
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
            data = self.line.recv(PID.size)
        except ConnectionError:
            data = b""
        if len(data) < PID.size:
            raise _SilentError("died")
        pid: int = PID.unpack(data)[0]
        return pid


class _SilentError(Exception):
    """The template gave no answer."""


class Templates(ArbiterPart):
    """The templates there are, by generation: one, or two while a reload is under way."""

    def __init__(self, books: Books) -> None:
        self.books = books
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

    def start_probe(self, release: str | None = None) -> TemplateProbe:
        """Fork the child that imports the application. Raises OSError."""
        probe = TemplateProbe(self.books, release)
        probe.start()
        self.books.probes.add(probe.pid)
        return probe

    def settle(self, generation: int, probe: TemplateProbe) -> bool:
        """After its good report: whether the probe stays, as the template of `generation`."""
        hello = probe.hello()
        if hello is None or probe.report is None or probe.report.error:
            return False
        books = self.books
        if hello["threads"] > 1:
            books.log.warning(
                "No template: the application starts %d threads when it is imported, and a fork "
                "has none of them; every worker imports it by itself", hello["threads"] - 1)
            return False
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._living[generation] = _Template(probe.pid, probe.take_line())
        self._lost.discard(generation)
        books.probes.discard(probe.pid)
        books.log.info("Template of generation %d ready (pid: %s)", generation, probe.pid)
        return True

    def fork(self, worker: WorkerRecord, channel: Channel) -> int:
        """Fork `worker` with its end of the channel; returns its pid, 0 without a template.

        Raises OSError when the system has no room for a process.
        """
        template = self._living.get(worker.generation)
        if template is None:
            return 0
        books = self.books
        order = {
            "slot": worker.slot, "generation": worker.generation, "age": worker.age,
            "start": worker.start,
            "row": worker.row.index, "scoreboard": str(books.runtime.scoreboard(books.pid)),
            "runtime": str(books.runtime.path),
        }
        try:
            return template.fork(order, channel, worker.sockets)
        except _SilentError as error:
            self._lose(worker.generation, str(error))
            return 0

    def on_exit(self, pid: int, status: int) -> bool:
        for generation, template in self._living.items():
            if template.pid == pid:
                self._lose(generation, "died")
                self.books.probes.discard(pid)
                return True
        return False

    def _lose(self, generation: int, why: str) -> None:
        self.books.log.warning(
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
        self.books.probes.add(template.pid)
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
        present = self._living.get(self.books.generation)
        self.books.scoreboard.set_figure(Figure.TEMPLATE, present.pid if present else 0)

    def stop(self) -> None:
        self._cancel()
        for generation in list(self._living):
            self.drop(generation)

    # -- one that died is made again -------------------------------------------------------

    def advance(self) -> None:
        """Make a lost template of the present generation again; never blocks."""
        books = self.books
        self._publish()
        if books.reload is not None:
            self._cancel()
        elif self._again is not None:
            self._hear(self._again)
        elif books.generation in self._lost and time.monotonic() >= self._not_before:
            self._again_since = time.monotonic()
            try:
                self._again = self.start_probe()
            except OSError as error:
                self._not_before = time.monotonic() + self._delay
                books.log.error("No template: no new process: %s", error.strerror)

    def _hear(self, probe: TemplateProbe) -> None:
        report = probe.poll()
        limit = self.books.cfg.boot_timeout
        if report is None:
            if time.monotonic() - self._again_since <= limit:
                return
            error = f"the application did not import within {limit:g} s"
        else:
            error = report.error
        if error:
            self._lost.discard(self.books.generation)
            self.books.log.error("No template until the next reload: %s", error)
            self._cancel()
            return
        if not self.settle(self.books.generation, probe):
            self._lost.discard(self.books.generation)
        probe.close()
        self._again = None

    def _cancel(self) -> None:
        if self._again is not None:
            self._again.kill()
            self._again.close()
            self._again = None

    def watched(self) -> Mapping[int, Callable[[], None]]:
        return {self._again.fileno(): nothing} if self._again is not None else {}

    def shed(self) -> None:
        for template in self._living.values():
            template.line.close()
        if self._again is not None:
            self._again.close()
