"""The servers that ``reload.py`` compares, each with two workers and reloaded by SIGHUP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _bench import HERE, Server

from apihour.testing import Daemon

LOAD = HERE / "load"
WORKERS = 2
LINGER = 2.0  # seconds, of apihour; the thinking column is measured by it
PACKAGES = ("gunicorn>=27,<28", "aiohttp", "uvloop", "uvicorn", "httptools", "websockets",
            "granian")
OURS = {"apihour": "Container", "apihour, aiohttp": "Aiohttp", "apihour, ASGI": "Asgi"}


@dataclass(frozen=True)
class Subject:
    """A server that runs: its addresses by kind (``http``, ``echo``), and how it reloads."""

    name: str
    addresses: dict[str, str]
    reload: Callable[[], None]
    reloads: Callable[[], int]
    """How many reloads went through, as far as it says; -1 where it does not."""


def gunicorn(bin: Path, port: int) -> list[str]:
    return [str(bin / "gunicorn"), "reload_apps:make_application", "-k",
            "aiohttp.GunicornUVLoopWebWorker", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}",
            "--keep-alive", "75", "--no-control-socket", "--log-level", "warning"]


def uvicorn(bin: Path, port: int) -> list[str]:
    return [str(bin / "uvicorn"), "reload_apps:asgi", "--port", str(port), "--loop", "uvloop",
            "--http", "httptools", "--workers", str(WORKERS), "--timeout-keep-alive", "75",
            "--no-access-log", "--log-level", "warning"]


def granian(bin: Path, port: int) -> list[str]:
    return [str(bin / "granian"), "--interface", "asgi", "--port", str(port), "--workers",
            str(WORKERS), "--loop", "uvloop", "--http", "1", "--log-level", "warning",
            "reload_apps:asgi"]


PEERS: dict[str, Callable[[Path, int], list[str]]] = {
    "gunicorn": gunicorn, "uvicorn": uvicorn, "granian": granian,
}


def environment(venv: Path) -> Path:
    """Make the peers' virtual environment if it is not there; returns its ``bin``."""
    bin = venv / "bin"
    if not (bin / "granian").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(bin / "pip"), "install", "-qq", *PACKAGES], check=True)
    return bin


def default_venv() -> Path:
    return Path(tempfile.gettempdir()) / "apihour-benchmark-reload-venv"


def ours(name: str, *options: str, workers: int = WORKERS, burn: float = 0.0,
         console: bool = False) -> Daemon:
    """apihour with one of the containers."""
    return Daemon(
        f"reload_apps:{OURS[name]}", "--linger", str(LINGER), "--graceful-timeout", "30",
        *options, cwd=LOAD, workers=workers, console=console, env={"BURN": str(burn)},
        command=(sys.executable, "-m", "apihour"), timeout=60.0)


@contextlib.contextmanager
def running(name: str, bin: Path | None) -> Iterator[Subject]:
    """One server, from its start to its end."""
    if name in OURS:
        with ours(name) as daemon:
            yield Subject(
                name, {kind: daemon.address(kind) for kind in ("http", "echo")},
                lambda: daemon.signal(signal.SIGHUP), lambda: daemon.log.count("Reload done"))
        return
    assert bin is not None
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    # On the path, too: granian does not add its working directory.
    path = {"PYTHONPATH": str(LOAD)}
    with Server(PEERS[name](bin, port), port=port, cpu=None, cwd=LOAD, environment=path) as server:
        yield Subject(name, {"http": f"127.0.0.1:{port}"},
                      lambda: os.kill(server.pid, signal.SIGHUP), lambda: -1)
