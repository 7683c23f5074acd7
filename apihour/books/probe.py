"""The short-lived child that imports the application and tells the arbiter its binds.

Rules:

- The arbiter never imports application code; this child does, reports over a pipe, and is
  gone. An import error is one clear message, not a crash loop.
- It runs the whole check a reload needs first: configuration files, logging, import, binds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from apihour.app.examine import examine
from apihour.books.becoming import shed
from apihour.books.books import Books
from apihour.config.configuration import forget_environment
from apihour.ipc.prctl import PR_SET_PDEATHSIG, prctl
from apihour.ipc.signals import STOPS, let_through

__all__ = ["Probe", "ProbeReport", "begin_probe", "start_probe"]


@dataclass(frozen=True)
class ProbeReport:
    """What the child found: the declared binds, or one line why not (and the traceback).

    `binds` is None for an application that serves nothing.
    """

    binds: dict[str, list[str]] | None = field(default_factory=dict)
    error: str = ""
    detail: str = ""


class Probe:
    """One probe child. Never blocks: ask :meth:`poll` whenever its descriptor is readable."""

    def __init__(
        self, examine: Callable[[], dict[str, list[str]] | None], in_child: Callable[[], None],
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        """The child calls `in_child` to shed what it inherited, then `examine`.

        After a good report it calls `afterwards`, whose end is the child's end.
        """
        self._body = (examine, in_child, afterwards)
        self._data = bytearray()
        self.pid = 0
        self.report: ProbeReport | None = None

    def start(self) -> None:
        """Fork it. Raises OSError when the system has no room for a process."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if self.pid == 0:
            os.close(reading)
            _report(writing, *self._body)
        os.close(writing)
        os.set_blocking(reading, False)
        self._fd = reading

    def fileno(self) -> int:
        return self._fd

    def poll(self) -> ProbeReport | None:
        """Read what has come; the report once it is whole or the child is gone."""
        while self.report is None:
            try:
                chunk = os.read(self._fd, 65536)
            except BlockingIOError:
                return None
            if not chunk:
                self.report = _decode(bytes(self._data))
                break
            self._data += chunk
            if chunk.endswith(b"\n"):
                # Not the end of file: a process the application forked may hold the pipe.
                self.report = _decode(bytes(self._data))
        return self.report

    def wait(self, timeout: float) -> ProbeReport:
        """Block until the report is there; used only before the first worker exists."""
        while self.poll() is None:
            if not select.select([self._fd], [], [], timeout)[0]:
                self.kill()
                return ProbeReport(error=f"the application did not import within {timeout:g} s")
        assert self.report is not None
        return self.report

    def kill(self) -> None:
        """End the child; its reaping is the arbiter's."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self) -> None:
        os.close(self._fd)


def start_probe(books: Books) -> Probe:
    """Fork the child that imports the application. Raises OSError."""
    probe = Probe(partial(examine, books.app), partial(begin_probe, books))
    probe.start()
    books.probes.add(probe.pid)
    return probe


def begin_probe(books: Books) -> None:
    """In the child: keep nothing of the arbiter's, and end with it, whatever is done then.

    An import that outlives the arbiter must not hold its listeners.
    """
    shed(books)
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != books.pid:
            os._exit(1)
    forget_environment(books.cfg)


def _report(
    fd: int, examine: Callable[[], dict[str, list[str]] | None], in_child: Callable[[], None],
    afterwards: Callable[[], None] | None,
) -> None:
    """Body of the child; leaves by _exit so that nothing of the arbiter's runs twice."""
    try:
        in_child()
        let_through(STOPS)
        message: dict[str, Any] = {"binds": examine()}
    except BaseException as error:
        from apihour.blame import account  # read where one fails only

        told = account(error)
        message = {"error": told["message"], "detail": told["detail"]}
    try:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(fd, data) :]
        sys.stdout.flush()
        sys.stderr.flush()
        if afterwards is not None and "error" not in message:
            os.close(fd)
            afterwards()
    finally:
        os._exit(0)


def _decode(data: bytes) -> ProbeReport:
    try:
        message = json.loads(data)
    except ValueError:
        return ProbeReport(error="the process that imports the application died")
    return ProbeReport(
        binds=message.get("binds", {}), error=message.get("error", ""),
        detail=message.get("detail", ""),
    )
