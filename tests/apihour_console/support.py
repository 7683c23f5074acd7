"""What the tests of the console share: a fleet made of numbers, a server, real clients."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pty
import re
import shutil
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from apihour.ops.annotations import Seconds, Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Command, CommandFailed, Parameter, Role
from apihour_console.calls.call import Call, Identity, Missing, Result
from apihour_console.faces.ssh import ServerSettings, ShellServer
from apihour_console.keys.directory import KeyDirectory
from apihour_console.shell.audit import AuditLog

LOGGER = logging.getLogger("tests.console")
SSH = shutil.which("ssh")


@dataclass(frozen=True)
class WorkerRow:
    """A row of the fake fleet's ``workers``."""

    worker: str
    pid: int
    state: str
    age: Seconds


class FakeFleet:
    """Answers like a fleet of two workers, and remembers what was cancelled."""

    def __init__(self) -> None:
        self.catalogue = make_catalogue()
        self.cancelled: list[str] = []
        self.started = asyncio.Event()
        self.streamed = 0

    async def execute(self, call: Call, identity: Identity) -> Result:
        name = call.command.name
        self.started.set()
        if name == "help":
            return Result(text="".join(f"{one.name:10} {one.summary}\n" for one in self.catalogue))
        if name == "version":
            return Result(text="apihour 1.0")
        if name == "fail":
            raise CommandFailed("it failed\x1b[31m", detail="Traceback: here")
        if name == "wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
        if name == "long":
            return Result.of(call, [{"line": number} for number in range(200)])
        if name == "big":
            return Result(text="x" * 79 + "\n" * 1 + ("y" * 79 + "\n") * 40_000)
        if name == "top":
            return Result.of(call, [
                {"kind": kind, "name": one, "state": state, "requests_s": 1.0, "connections": 2,
                 "accepted_s": 0.5, "errors_s": 0.0, "cpu": 3.0, "rss": 1 << 24, "lag": 0.0003}
                for kind, one, state in (("worker", "1.1", "serving"), ("worker", "2.1", "stuck"),
                                         ("server", "http", "http"))
            ])
        rows: list[dict[str, Any]] = [
            {"worker": "1.1", "pid": 11, "state": "serving", "age": 1.5},
            {"worker": "2.1", "pid": 12, "state": "draining\x1b[2J", "age": 90.0},
        ]
        missing = [Missing("3.1", "no answer in 2 s")] if name == "partial" else []
        return Result.of(call, rows, missing)

    async def stream(self, call: Call, identity: Identity) -> AsyncIterator[dict[str, Any]]:
        self.started.set()
        try:
            while True:
                self.streamed += 1
                yield {"number": self.streamed, "text": "line\x07"}
                await asyncio.sleep(0.02 if self.streamed > 3 else 0)
        finally:
            self.cancelled.append(call.command.name)

    async def values(self, kind: str) -> Sequence[str]:
        return {"worker": ["1.1", "2.1"], "connection": ["1.1-7"],
                "host": ["web-1", "web-2"]}.get(kind, [])


def make_catalogue() -> Catalogue:
    """The commands of the fake fleet."""
    catalogue = Catalogue()

    @catalogue.command(collects="agent")
    async def workers(agent: Any) -> list[WorkerRow]:
        """The workers"""
        return []

    @catalogue.command(collects="agent")
    async def partial(agent: Any) -> list[WorkerRow]:
        """The workers, one of which does not answer"""
        return []

    @catalogue.command(collects="agent")
    async def stack(agent: Any, worker: Worker = "all", *, frames: int = 5) -> None:
        """Where a worker is"""

    for name, role, streams in (
        ("help", Role.OBSERVER, False), ("version", Role.OBSERVER, False),
        ("exit", Role.OBSERVER, False), ("clear", Role.OBSERVER, False),
        ("fail", Role.OBSERVER, False),
        ("wait", Role.OBSERVER, False), ("long", Role.OBSERVER, False),
        ("big", Role.OBSERVER, False), ("top", Role.OBSERVER, False),
        ("conns", Role.OBSERVER, False), ("numbers", Role.OBSERVER, True),
        ("reload", Role.OPERATOR, False), ("kick", Role.ADMIN, False),
    ):
        catalogue.add(Command(name, f"does {name}", role=role, streams=streams,
                              collects="console", acts="daemon" if name == "reload" else ""))
    catalogue.add(Command("watch", "again and again", collects="console", parameters=(
        Parameter("interval", "duration", positional=True, default=2.0),
        Parameter("command", "str", positional=True, variadic=True),
    ), streams=True))
    return catalogue


class PythonFleet(FakeFleet):
    """Evaluates with eval, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = False
        self.catalogue.add(Command("python", "evaluate", role=Role.ADMIN, parameters=(
            Parameter("worker", "worker", positional=True, required=True),
            Parameter("source", "str", positional=True, default=""),
            Parameter("session", "str", default=""), Parameter("complete", "bool"),
        )))

    async def execute(self, call: Call, identity: Identity) -> Result:
        if call.command.name != "python":
            return await super().execute(call, identity)
        source = call.arguments["source"]
        if source == "wait":
            try:
                self.waiting = True
                await asyncio.sleep(60)
            finally:
                self.cancelled.append("python")
        if source == "gone":
            return Result(status=2, error="worker 1: there is none")
        if call.arguments.get("complete"):
            return Result(rows=[{"completions": [source + "_one"]}])
        try:
            return Result(rows=[{"output": f"{eval(source)}\n\x1b[2J", "failed": False}])
        except Exception as error:
            return Result(rows=[{"output": f"{error!r}\n", "failed": True}])


class Shells:
    """A shell server in this process, and ssh clients in others."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.fleet = FakeFleet()
        self.keys = KeyDirectory(directory / "keys")
        self.keys.path.mkdir(exist_ok=True)
        self.settings = settings
        self.key_files: dict[str, Path] = {}
        self.server: ShellServer = None  # type: ignore[assignment]
        self.port = 0

    def add_key(self, role: str, options: str = "", kind: str = "ssh-ed25519") -> Path:
        """Authorise a new key in that role; returns the file of its private half."""
        key = asyncssh.generate_private_key(kind, comment=f"{role}@test")
        path = self.directory / f"id_{role}"
        path.write_bytes(key.export_private_key("openssh"))
        path.chmod(0o600)
        public = key.export_public_key("openssh").decode().strip()
        with open(self.keys.authorized, "a", encoding="utf-8") as file:
            file.write(f'role="{role}"{options} {public}\n')
        self.key_files[role] = path
        return path

    async def start(self, configured: bool = True) -> None:
        if not self.key_files and configured:
            for role in ("observer", "operator", "admin"):
                self.add_key(role)
        settings = ServerSettings(**{"history": self.keys.path, **self.settings})
        audit = AuditLog(self.keys.path / "audit.jsonl", LOGGER)
        self.server = ShellServer(self.fleet, audit, self.keys, settings, LOGGER)
        if configured:
            self.server.configure(self.keys.make_host_key(), self.keys.read_authorized())
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        self.port = sock.getsockname()[1]
        self.server.listen(sock)
        self.server.watch()

    async def stop(self) -> None:
        await self.server.stop()

    def command(self, *words: str, role: str = "admin", options: Sequence[str] = ()) -> list[str]:
        """The command line of an OpenSSH client."""
        return ssh_command(self.port, self.key_files[role], *words, options=options)

    async def run(
        self, *words: str, role: str = "admin", options: Sequence[str] = (),
        stdin: bytes | None = b"", timeout: float = 20.0,
    ) -> tuple[int, str, str]:
        """Run ssh; returns status, stdout and stderr."""
        return await run(self.command(*words, role=role, options=options), stdin, timeout)


def ssh_command(
    port: int, key: Path, *words: str, options: Sequence[str] = (), user: str = "anyone"
) -> list[str]:
    """The command line of an OpenSSH client that trusts and remembers nobody."""
    return [
        SSH or "ssh", "-F", "/dev/null", "-i", str(key), "-p", str(port),
        "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "LogLevel=ERROR", *options, f"{user}@127.0.0.1", *words,
    ]


async def run(
    command: Sequence[str], stdin: bytes | None = b"", timeout: float = 20.0
) -> tuple[int, str, str]:
    """Run a process to its end; it is killed at the timeout."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(), err.decode()


async def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for a condition that no event tells."""
    async with asyncio.timeout(timeout):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Typist:
    """A process on a pseudo-terminal, typed at and read from."""

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.seen = ""
        self._came = asyncio.Event()
        self.process: asyncio.subprocess.Process = None  # type: ignore[assignment]

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def start(self, command: Sequence[str], term: str = "xterm-256color") -> None:
        self.process = await asyncio.create_subprocess_exec(
            *command, stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env={**os.environ, "TERM": term}, preexec_fn=_own_terminal,
        )
        os.close(self.slave)
        os.set_blocking(self.master, False)
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.master)
        self.seen += data.decode("utf-8", "replace")
        self._came.set()

    async def type(self, text: str) -> None:
        """Type, as fast as the terminal takes it."""
        data = text.encode()
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self.master, data[:1024]):]
            await asyncio.sleep(0)

    async def expect(self, pattern: str, timeout: float = 10.0) -> str:
        """Wait until `pattern` (a regular expression over text without escape sequences) was
        printed since the last match; returns what was matched up to its end."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    text = plain(self.seen)
                    found = re.search(pattern, text, re.DOTALL)
                    if found:
                        self.seen = text[found.end():]
                        return text[: found.end()]
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{pattern!r} not in {plain(self.seen)[-3000:]!r}") from None

    async def ended(self, timeout: float = 10.0) -> int:
        return await asyncio.wait_for(self.process.wait(), timeout)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self.master)


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def plain(text: str) -> str:
    """`text` without escape sequences and carriage returns."""
    text = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|\x1b[=>78]", "", text)
    return text.replace("\r", "")
