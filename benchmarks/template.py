"""What ``--template`` saves: time until all workers serve, and memory of the whole daemon.

How to run (about six minutes, with ``--quick`` one)::

    .venv/bin/python benchmarks/template.py [--rounds 5] [--quick]

Each case is started with and without the template in the same rounds, on all CPUs. The
application imports aiohttp, burns CPU in its import (0.05 s and 2 s) and keeps 50 MB of small
objects; measured are, of 2 and of 8 workers:

- from the command to the last worker's being ready;
- from SIGHUP to the end of the reload;
- from a worker's kill -9 to its replacement's being ready;
- proportional memory (Pss of smaps_rollup) of arbiter, template and workers together, after
  200 requests for each worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _bench import HERE, Server, arguments, interpreter, median, memory, ratio, table, tree

LOAD = HERE / "load"
PORT = r"http=127\.0\.0\.1:(\d+)"
MEGABYTES = 50
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
WAYS = ("plain", "template")
READY = re.compile(r"Worker \S+ ready \(pid: (\d+)\)")


@dataclass(frozen=True)
class Figures:
    """One run: seconds and MB (10**6 bytes)."""

    start: float
    reload: float
    replace: float
    memory: float


class Daemon(Server):
    """The daemon of one run; its log is kept whole."""

    def __init__(self, way: str, workers: int, seconds: float, runtime: str) -> None:
        command: list[str | Path] = [
            Path(sys.executable).parent / "apihour", "import_app:Container",
            "--workers", str(workers), "--no-console", "--graceful-timeout", "2",
        ]
        super().__init__(
            [*command, *(["--template"] if way == "template" else [])], PORT, cpu=None,
            timeout=60 + 3 * seconds * workers, cwd=LOAD, environment={
                "IMPORT_SECONDS": str(seconds), "IMPORT_MEGABYTES": str(MEGABYTES),
                "APIHOUR_RUNTIME_DIR": runtime,
            },
        )
        self.lines = deque()  # the whole log: its lines are counted

    def wait(self, pattern: str, count: int, since: float) -> float:
        """Seconds from `since` until that many lines match."""
        limit = time.perf_counter() + 120
        while sum(bool(re.search(pattern, line)) for line in list(self.lines)) < count:
            if time.perf_counter() > limit:
                raise RuntimeError(f"waited in vain for {pattern!r}:\n" + "".join(self.lines))
            time.sleep(0.005)
        return time.perf_counter() - since

    def workers(self) -> list[int]:
        """The pids of the workers that became ready, the first first."""
        return [int(found[1]) for line in list(self.lines) if (found := READY.search(line))]


def use(port: int, requests: int) -> None:
    """Requests on connections of their own, so that all workers get some."""
    for _ in range(requests):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(REQUEST)
            while connection.recv(65536):
                pass


def measure(way: str, workers: int, seconds: float) -> Figures:
    with contextlib.ExitStack() as stack:
        runtime = stack.enter_context(tempfile.TemporaryDirectory(prefix="apihour-bench-"))
        daemon = Daemon(way, workers, seconds, runtime)
        stack.enter_context(daemon)
        start = daemon.wait(READY.pattern, workers, daemon.began)
        use(daemon.port, 200 * workers)
        used = sum(memory(pid)["pss"] for pid in tree(daemon.pid))
        since = time.perf_counter()
        os.kill(daemon.workers()[0], signal.SIGKILL)
        replace = daemon.wait(READY.pattern, workers + 1, since)
        since = time.perf_counter()
        os.kill(daemon.pid, signal.SIGHUP)
        reload = daemon.wait("Reload done", 1, since)
    return Figures(start, reload, replace, used)


def row(name: str, plain: Sequence[float], template: Sequence[float], unit: str) -> list[str]:
    form = "{:.2f} s" if unit == "s" else "{:.0f} MB"
    return [name, form.format(median(plain)), form.format(median(template)),
            f"{ratio(template, plain):.2f}"]


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    rounds = 1 if options.quick else options.rounds
    print(interpreter())
    rows = []
    for seconds in (0.05, 2.0):
        for workers in (2, 8):
            figures: dict[str, list[Figures]] = {way: [] for way in WAYS}
            for number in range(rounds):
                for way in WAYS if number % 2 else WAYS[::-1]:
                    figures[way].append(measure(way, workers, seconds))
            for name, unit in (("start", "s"), ("reload", "s"), ("replace", "s"),
                               ("memory", "MB")):
                plain, template = ([getattr(f, name) for f in figures[way]] for way in WAYS)
                rows.append(row(f"{name}, {workers} workers, import {seconds:g} s", plain,
                                template, unit))
    print(table(["", "plain", "--template", "ratio"], rows))


if __name__ == "__main__":
    main()
