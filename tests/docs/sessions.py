"""What a page has its reader type, typed: files are written, daemons started, answers compared.

Rules:

- A ``console`` block is ``$ command`` lines, each followed by what it prints, if that matters;
  ``...`` stands for any text, and spaces count as one.
- ``apihour MODULE:NAME`` and ``apihour dev`` go on beside what follows, until the next or the
  page's end; all else must end with status 0, or with that of ``# status N`` behind it.
- What installs (``pip``, ``venv``, ``activate``) is left out, as the suite's environment has it
  all, and so is what needs the internet (``certbot``).
- Ports of 127.0.0.1 are replaced by free ones, the shell's too, in files as in commands.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import Block
from tests.ports import free_port

PATIENCE = 60.0  # seconds that a daemon or a command may take on a busy machine
_PORT = re.compile(r"(127\.0\.0\.1[: ]|localhost[: ]|-p )(\d{4})\b")
_DAEMON = re.compile(r"apihour (?:dev )?(?:-\S+ )*[\w.]+:\w+")
_ELSEWHERE = re.compile(
    r"python3? -m venv|\. .*activate$|pip |cd |mkdir \w+ && cd|git clone|certbot")
_STATUS = re.compile(r" +# status (\d+)$")
# What of nc the pages use, where there is none: what is typed goes out, what comes in is printed.
_NC = """#!/bin/sh
exec "$PYTHON" -c "
import socket, sys
with socket.create_connection(sys.argv[-2:]) as sock:
    sock.sendall(sys.stdin.buffer.read())
    while data := sock.recv(65536):
        sys.stdout.buffer.write(data)
" "$@"
"""
_OPTIONS = ("-F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            "-o LogLevel=ERROR -o IdentitiesOnly=yes")


class Session:
    """A reader at a page, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports: dict[str, str] = {}
        self.daemon: subprocess.Popen[bytes] | None = None
        self.log = directory / "daemon.log"
        self.runtime = tempfile.mkdtemp(prefix="apihour-docs-")  # `apihour ctl` finds no other
        key = directory / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (directory / "bin").mkdir()
        (directory / "bin" / "nc").write_text(_NC)
        (directory / "bin" / "nc").chmod(0o755)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{directory / 'bin'}"
        self.environment = {
            **os.environ, "PATH": path, "PYTHON": sys.executable,
            "GUNICORN_CMD_ARGS": f"-w 2 --console 127.0.0.1:{self.port('8022')}",
            "APIHOUR_RUNTIME_DIR": self.runtime, "NO_COLOR": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider"}
        self.type(f"apihour keys add {key}.pub --role admin")

    def port(self, number: str) -> str:
        """The port that stands for the one of the page."""
        return self.ports.setdefault(number, str(free_port()))

    def mapped(self, text: str) -> str:
        """The text with ports of this session."""
        return _PORT.sub(lambda found: found[1] + self.port(found[2]), text)

    def follow(self, block: Block) -> None:
        """Do what a block of the page says."""
        if block.name:
            path = self.directory / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.mapped(block.text))
        elif block.language == "console":
            for command, expected in commands(block.text):
                if not _ELSEWHERE.match(command):
                    self.do(command, expected, block.place)

    def do(self, command: str, expected: str, place: str) -> None:
        """Carry out one line, and compare what it prints."""
        if _DAEMON.match(command):
            self.end()
            self.start(command)
            return
        wanted = _STATUS.search(command)
        deadline = time.monotonic() + PATIENCE
        while True:  # a worker under way, a reload of apihour dev: what is expected comes
            done = self.type(_STATUS.sub("", command))
            right = done.returncode == int(wanted[1] if wanted else 0)
            if right and matches(self.mapped(expected), done.stdout + done.stderr):
                return
            if time.monotonic() > deadline or not self.daemon:
                break
            time.sleep(0.3)
        raise AssertionError(
            f"{place}: $ {command}\nexpected:\n{expected}\ngot {done.returncode}:\n"
            f"{done.stdout}{done.stderr}\nthe daemon said:\n{self.said()}")

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line in the session's directory."""
        command = self.mapped(command)
        command = re.sub(r"^ssh ", f"ssh -i {self.directory / 'id'} {_OPTIONS} ", command)
        return subprocess.run(
            ["sh", "-c", command], cwd=self.directory, env=self.environment, text=True,
            capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)

    def start(self, command: str) -> None:
        """Start a daemon, and wait until its workers are ready."""
        with self.log.open("wb") as log:
            self.daemon = subprocess.Popen(
                ["sh", "-c", f"exec {self.mapped(command)}"], cwd=self.directory,
                env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            assert self.daemon.poll() is None, f"$ {command}\n{self.said()}"
            assert time.monotonic() < deadline, f"$ {command}\nis not ready:\n{self.said()}"
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether all workers that the daemon has announced serve."""
        wanted = re.search(r"Workers: (\d+)", self.said())
        return wanted is not None and self.said().count(" ready (pid") >= int(wanted[1])

    def said(self) -> str:
        """What the daemon wrote."""
        return self.log.read_text() if self.log.exists() else ""

    def close(self) -> None:
        """End what is left."""
        self.end()
        shutil.rmtree(self.runtime, ignore_errors=True)

    def end(self) -> None:
        """Stop the daemon, as Ctrl-C does."""
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGINT)
            try:
                self.daemon.wait(PATIENCE)
            finally:
                self.daemon.kill()
        self.daemon = None


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a ``console`` block, each with what it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        part = re.sub(r"\\\n\s*", "", part)
        command, _, printed = part.partition("\n")
        yield re.sub(r"  +# (?!status).*", "", command).strip(), printed.strip()


def matches(expected: str, printed: str) -> bool:
    """Whether the output is the expected; ``...`` is any text."""
    if not expected:
        return True
    parts = (r"\s+".join(map(re.escape, part.split())) for part in expected.split("..."))
    return re.fullmatch(r"\s*" + r"\s*.*?\s*".join(parts) + r"\s*", printed, re.DOTALL) is not None
