"""What a daemon costs that uses nothing of many machines: modules, sockets and memory.

How to run (about half a minute, with a second checkout twice that)::

    .venv/bin/python benchmarks/idle.py [--rounds 5] [--against CHECKOUT]

One application with a route and an echo, two workers and the console; no bus, no store elsewhere,
no fleet, no flags. Of each process: the modules that it has when it ends, those of them that are
for many machines, its sockets, and its memory while it serves, after some requests. `--against` is
another checkout, built (``setup.py build_ext --inplace``), that runs in the same rounds: a commit
before container.bus says what all of it has added where it is not used.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from _bench import ROOT, Server, arguments, interpreter, median, memory, python, table, tree

MANY = ("apihour.bus", "apihour.presence", "apihour.shared", "apihour_console.hosts", "nats",
        "redis", "asyncpg")
"""What is for many machines, and libraries that nobody asked for."""

APP = """
import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"hello": "you"}


async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "echo": "127.0.0.1:0"}

    def make_servers(self):
        return {"http": HTTPServer(routes), "echo": echo}
"""
# Python imports this first, in the arbiter and in the console, and a fork inherits it.
TELLS = """
import atexit, json, os, sys

def tell():
    with open(os.path.join(os.environ["IDLE_TELLS"], str(os.getpid())), "w") as file:
        json.dump(sorted(sys.modules), file)

def leave(status, leave=os._exit):
    tell()
    leave(status)

atexit.register(tell)
os._exit = leave
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True)
class Idle:
    """One process of one run; memory in MB (10**6 bytes)."""

    modules: int
    many: list[str]
    sockets: int
    rss: float
    uss: float


def run(checkout: Path) -> dict[str, Idle]:
    """Start the daemon of a checkout, ask it a little, end it: its processes by their roles."""
    with tempfile.TemporaryDirectory(prefix="apihour-idle-") as name:
        place = Path(name)
        (place / "app.py").write_text(APP)
        (place / "sitecustomize.py").write_text(TELLS)
        (place / "tells").mkdir()
        paths = (place, checkout, checkout / "protocols")
        daemon = Server(
            python("-P", "-m", "apihour", "app:Container", "--workers", "2", "--console",
                   "127.0.0.1:0"),
            r"http=127\.0\.0\.1:(\d+)", cpu=None, cwd=place, environment={
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
                "IDLE_TELLS": str(place / "tells")})
        with daemon:
            _wait_ready(daemon)
            _ask(daemon.port)
            roles = {"arbiter": daemon.pid}
            for child in tree(daemon.pid)[1:]:
                words = Path(f"/proc/{child}/cmdline").read_bytes()
                roles["console" if b"apihour_console" in words else "worker"] = child
            seen = {role: (_sockets(pid), memory(pid)) for role, pid in roles.items()}
        return {role: _idle(place / "tells" / str(pid), *seen[role])
                for role, pid in roles.items()}


def _idle(told: Path, sockets: int, sizes: Mapping[str, float]) -> Idle:
    names = json.loads(told.read_text())
    many = [name for name in names if any(
        name == root or name.startswith(f"{root}.") for root in MANY)]
    return Idle(len(names), many, sockets, sizes["rss"], sizes["uss"])


def _wait_ready(daemon: Server) -> None:
    """Both workers serve, and the console does."""
    ends = time.monotonic() + 60
    wanted = ("Worker 1.1 ready", "Worker 2.1 ready", "network shell")
    while not all(any(word in line for line in list(daemon.lines)) for word in wanted):
        if time.monotonic() > ends:
            raise RuntimeError("not ready in a minute:\n" + "".join(daemon.lines))
        time.sleep(0.02)


def _ask(port: int) -> None:
    """A hundred requests, each on a connection of its own: for all workers."""
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(REQUEST)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200"), "the route answers"


def _sockets(pid: int) -> int:
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(entry).startswith("socket:")
    return found


def row(name: str, role: str, runs: Sequence[Mapping[str, Idle]]) -> list[object]:
    """One process, of all rounds."""
    found = [each[role] for each in runs]
    return [f"{name} {role}", found[0].modules, len(found[0].many), found[0].sockets,
            f"{median([one.rss for one in found]):.1f} MB",
            f"{median([one.uss for one in found]):.1f} MB"]


def main() -> None:
    """Run the rounds and print the table."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another, in turn")
    options = parser.parse_args()
    checkouts = {"now": ROOT} | ({"before": options.against.resolve()} if options.against else {})
    runs: dict[str, list[dict[str, Idle]]] = {name: [] for name in checkouts}
    for _ in range(1 if options.quick else options.rounds):
        for name, checkout in checkouts.items():
            runs[name].append(run(checkout))
    print(interpreter())
    print(table(["process", "modules", "for many machines", "sockets", "rss", "uss"], [
        row(name, role, runs[name]) for role in ("arbiter", "worker", "console")
        for name in reversed(checkouts)]))
    used = sorted({module for found in runs["now"] for one in found.values()
                   for module in one.many})
    print("loaded though it is not used:", ", ".join(used) or "nothing")
    sys.exit(bool(used))


if __name__ == "__main__":
    main()
