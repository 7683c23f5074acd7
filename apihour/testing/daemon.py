"""A daemon for tests: real processes, started, asked, hurt and ended.

Rules:

- Every daemon has a session and a runtime directory of its own, which is how its processes
  are found again, orphans too: they are of that session, or carry that environment.
- Waiting is for a condition, with a deadline; what failed to come is said with the log.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from apihour.ipc.daemons import read_instance, scoreboards
from apihour.ipc.row_record import RowRecord, row_record
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard
from apihour.ipc.wire import Framer, encode
from apihour.testing.processes import end_processes, is_running, processes_of, stands

__all__ = ["Daemon", "Outcome"]

T = TypeVar("T")
_POLL = 0.02  # seconds between two looks at a condition
_LISTENING = re.compile(r"Listening at: (\S+?)=([^\s?]+)")
_KILL = int(signal.SIGKILL)
_CONSOLE = ("--console", "--health")  # options of what the console process serves
_QUICK = ("--graceful-timeout", "5")


@dataclass(frozen=True)
class Outcome:
    """How a command to the arbiter went; `rows` is its answer, `error` one line why not."""

    ok: bool
    rows: tuple[dict[str, Any], ...] = ()
    error: str = ""
    detail: str = ""

    def __bool__(self) -> bool:
        return self.ok


class Daemon:
    """One ``apihour TARGET OPTIONS`` in processes of its own.

    `target` and `options` are the command line's; ``--workers``, ``--no-console`` (unless
    `console`, or the options name what it serves: ``--console``, ``--health``) and
    ``--graceful-timeout 5`` are put before them; `workers` None leaves their number to the
    configuration. A ``health`` of the application's configuration is off with ``--no-console``.
    `cwd` is where it runs, `env` what is added to the environment (None takes a variable away),
    `command` the words before the target, `timeout` how many seconds a condition may take to
    come, `log` the file that ``--error-logfile`` among the options names.

    ``with Daemon("shop:Container") as daemon:`` starts it, waits until it serves, and ends it.
    """

    def __init__(
        self, target: str, *options: str, workers: int | None = 2, cwd: str | Path | None = None,
        env: Mapping[str, str | None] | None = None, console: bool = False,
        command: tuple[str, ...] = (sys.executable, "-m", "apihour"), timeout: float = 30.0,
        log: str | Path | None = None,
    ) -> None:
        self.target = target
        self.wanted = workers or 1
        self.timeout = timeout
        self._lines: list[str] = []
        self._log = Path(log) if log is not None else None
        self.process: subprocess.Popen[str] | None = None
        self._handed_over = False
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        # Not pytest's own directory: the path of a unix socket must stay short.
        self.directory = Path(tempfile.mkdtemp(prefix="apihour-test-", dir=base))
        served = any(option.startswith(_CONSOLE) for option in map(str, options))
        quiet = () if console or served else ("--no-console",)
        count = () if workers is None else ("--workers", str(workers))
        self._command = [*command, target, *count, *_QUICK, *quiet, *options]
        self._cwd = cwd
        self._environment = {
            **os.environ, "PYTHONUNBUFFERED": "1",
            # Two deploys within a second would else be one to the byte code's cache.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name, value in {**(env or {}), "APIHOUR_RUNTIME_DIR": str(self.directory)}.items():
            if value is None:
                self._environment.pop(name, None)
            else:
                self._environment[name] = value
        self._reader: threading.Thread | None = None

    # -- life ------------------------------------------------------------------------------

    def start(self, wait: bool = True) -> Daemon:
        """Start it; with `wait`, return when every worker serves.

        Raises AssertionError with its log when it does not come up.
        """
        self.process = subprocess.Popen(
            self._command, cwd=self._cwd, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            self.wait_ready()
        return self

    def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.rstrip("\n"))

    def __enter__(self) -> Daemon:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def terminate(self, sig: int = signal.SIGTERM, timeout: float | None = None) -> int | None:
        """Ask it to leave and wait until every process is gone; returns its exit status.

        None after an upgrade: the new arbiter is no child of this process. Raises
        AssertionError when it stays.
        """
        self.signal(sig)
        return self.wait_exit(timeout)

    def wait_exit(self, timeout: float | None = None) -> int | None:
        """Wait until every process is gone; returns the exit status as :meth:`terminate`."""
        assert self.process is not None
        process = self.process
        self.wait(lambda: process.poll() is not None and not self.processes(), "its end", timeout)
        assert self._reader is not None
        self._reader.join(self.timeout)
        return None if self._handed_over else process.returncode

    def close(self) -> None:
        """End every process of it, and remove its runtime directory. Does not fail twice."""
        if self.process is not None:
            # Twice: one that was just being forked is found by the second look.
            for _ in range(2):
                end_processes(self.processes())
            self.process.wait()
            assert self._reader is not None
            self._reader.join(self.timeout)
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- looking ---------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """What all of its processes wrote to stdout and stderr so far, then its log file."""
        if self._log is not None and self._log.exists():
            return [*self._lines, *self._log.read_text(errors="replace").splitlines()]
        return list(self._lines)

    @property
    def log(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)

    @property
    def runtime(self) -> Runtime:
        """Its runtime directory. Raises LookupError while there is none."""
        found = [one for base in sorted(self.directory.glob(f"apihour-{os.geteuid()}*"))
                 if not base.is_symlink() for one in Runtime.instances(base)]
        if not found:
            raise LookupError(f"{self.target}: no runtime directory yet")
        pid = self.process.pid if self.process is not None else 0
        own = [one for one in found if one.path.name.partition("-")[0] == str(pid)]
        return (own or found)[0]

    @property
    def pid(self) -> int:
        """The arbiter's pid; after an upgrade the new one's."""
        assert self.process is not None, "the daemon was not started"
        try:
            pid = int(read_instance(self.runtime).get("pid", self.process.pid))
        except LookupError:
            pid = self.process.pid
        self._handed_over = self._handed_over or pid != self.process.pid
        return pid

    def processes(self) -> set[int]:
        """Every living process of it: arbiters, workers, console, orphans too."""
        assert self.process is not None
        return processes_of(self.process.pid, f"APIHOUR_RUNTIME_DIR={self.directory}")

    def address(self, name: str) -> str:
        """Where the server of that name listens: ``127.0.0.1:40123`` or ``unix:...``."""
        found = [m[2] for line in self.lines if (m := _LISTENING.search(line))
                 and m[1] == name]
        if not found:
            raise LookupError(f"{self.target}: no server {name!r} is listening yet:\n{self.log}")
        return found[-1]

    def port(self, name: str) -> int:
        """The port of a TCP or UDP server."""
        return int(self.address(name).rpartition(":")[2])

    def connect(self, name: str, timeout: float = 10.0) -> socket.socket:
        """A blocking client socket, connected to a stream server."""
        address = self.address(name)
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(address.removeprefix("unix:").replace("@", "\0", 1))
            return sock
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout)

    def workers(self, state: str | None = None) -> list[RowRecord]:
        """Its workers by slot and generation, of that state only (``serving``...) if given."""
        records: list[RowRecord] = []
        try:
            boards = scoreboards(self.runtime)
        except (LookupError, FileNotFoundError):
            return []
        for _, path in boards:
            try:
                board = Scoreboard.open(str(path))
            except (FileNotFoundError, ValueError):
                continue  # an arbiter that just came or went
            records += [row_record(row) for row in board.active()]
            board.close()
        records = [record for record in records if record.pid]
        return [record for record in records if state in (None, record.state)]

    # -- waiting ---------------------------------------------------------------------------

    def wait(
        self, condition: Callable[[], T], what: str = "a condition", timeout: float | None = None
    ) -> T:
        """Return the first true value of `condition`. Raises AssertionError with the log."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.target}: waited in vain for {what}:\n{self.log}")
            time.sleep(_POLL)
        return value

    def wait_ready(self, workers: int | None = None, timeout: float | None = None) -> None:
        """Wait until that many workers serve (default: all). AssertionError if it ends."""
        process = self.process
        assert process is not None

        def is_ready() -> bool:
            if process.poll() not in (None, 0):
                raise AssertionError(f"{self.target}: exit status {process.returncode}:\n"
                                     f"{self.log}")
            return len(self.workers("serving")) >= (workers or self.wanted)

        self.wait(is_ready, "its workers", timeout)

    def wait_log(self, pattern: str, timeout: float | None = None, since: int = 0) -> str:
        """Wait for a line of the log, from number `since` on, and return it."""
        regex = re.compile(pattern)
        return self.wait(
            lambda: next((line for line in self.lines[since:] if regex.search(line)), ""),
            f"a line like {pattern!r}", timeout,
        )

    # -- doing -----------------------------------------------------------------------------

    def signal(self, sig: int) -> None:
        """Send a signal to the arbiter."""
        os.kill(self.pid, sig)

    def kill(self, worker: RowRecord | int, sig: int = _KILL) -> int:
        """Send a signal, SIGKILL by default, to one worker; returns its pid."""
        pid = worker if isinstance(worker, int) else worker.pid
        os.kill(pid, sig)
        return pid

    def stop(self, worker: RowRecord | int) -> int:
        """SIGSTOP one worker; returns its pid once all its threads stand."""
        pid = self.kill(worker, signal.SIGSTOP)
        self.wait(lambda: stands(pid), f"process {pid} stands")
        return pid

    def cont(self, worker: RowRecord | int) -> int:
        """SIGCONT one worker; returns its pid."""
        return self.kill(worker, signal.SIGCONT)

    def request(self, command: str, deadline: float | None = None, **arguments: Any) -> Outcome:
        """Ask the arbiter over its control socket, as the shell does."""
        return self._ask(self.runtime.arbiter_socket, command, arguments, deadline)

    def ask(self, worker: RowRecord | int, command: str, **arguments: Any) -> Outcome:
        """Ask one worker's agent, as the shell does; needs `console`, without it there is none."""
        pid = worker if isinstance(worker, int) else worker.pid
        return self._ask(self.runtime.agent_socket(pid), command, arguments, None)

    def _ask(
        self, path: Path, command: str, arguments: dict[str, Any], deadline: float | None
    ) -> Outcome:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(self.timeout if deadline is None else deadline)
            sock.connect(str(path))
            sock.sendall(encode({"id": 1, "command": command, "arguments": arguments,
                                 "role": "admin"}))
            framer = Framer()
            items: list[dict[str, Any]] = []
            while data := sock.recv(65536):
                for message in framer.feed(data):
                    if "item" not in message:
                        return _outcome(message, items)
                    item = message["item"]  # rows come one by one or in batches
                    items += item if isinstance(item, list) else [item]
        return Outcome(False, error=f"{command}: no answer, the connection was closed")

    def reload(self, wait: bool = True) -> Outcome:
        """Reload: by request and with its outcome, or, without `wait`, by SIGHUP."""
        if wait:
            return self.request("reload")
        self.signal(signal.SIGHUP)
        return Outcome(True)

    def upgrade(self) -> Outcome:
        """Start a new arbiter on the same sockets; returns when the old one has left."""
        before = self.pid
        outcome = self.request("upgrade")
        if outcome.ok:
            self.wait(lambda: not is_running(before), "the old arbiter's end")
        return outcome

    def scale(self, count: int, wait: bool = True) -> Outcome:
        """Set the number of workers; with `wait`, return when so many serve."""
        outcome = self.request("scale", workers=count)
        if outcome.ok:
            self.wanted = count
            if wait:
                self.wait(lambda: len(self.workers("serving")) == count, f"{count} workers")
        return outcome


def _outcome(message: Mapping[str, Any], items: list[dict[str, Any]]) -> Outcome:
    if "error" in message:
        return Outcome(False, error=str(message["error"]), detail=str(message.get("detail", "")))
    return Outcome(True, rows=(*items, *(message.get("result") or ())))
