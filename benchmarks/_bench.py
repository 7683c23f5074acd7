"""What the benchmarks share: servers as processes, interleaved rounds, medians, one table.

Rules:

- What is compared runs in the same rounds, in an order that turns with each round: on a
  shared machine single rounds differ by more than the things compared. Trust the ratios,
  which are taken within a round, and not the absolute figures.
- Servers and load are pinned to different CPUs, and every server listens on a port that the
  kernel chose, which is read from what it prints.
- A process is ended by its own pid, with the children that it still has.

Run a benchmark from the checkout, with the project's interpreter, nothing else running::

    .venv/bin/python benchmarks/NAME.py [--rounds 15] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
# A script's own directory comes first; http.py there must not stand for Python's package.
sys.path[:] = [*(path for path in sys.path if Path(path or ".").resolve() != HERE), str(HERE)]
LOAD_CPU, SERVER_CPU = 0, 1


# Processes


def pinned(cpu: int | None) -> list[str]:
    """The words before a command that keep it on one CPU; none where that cannot be done."""
    if cpu is None or shutil.which("taskset") is None or cpu not in os.sched_getaffinity(0):
        return []
    return ["taskset", "-c", str(cpu)]


class Server:
    """A server in a process of its own, for a ``with`` statement; `port` is where it listens.

    `pattern` finds the port in what it prints, as its first group; where the command names a
    `port` itself, the server is ready when it accepts there. Raises RuntimeError with its
    last lines when it ends, or nothing of the kind happens within `timeout` seconds.
    """

    def __init__(
        self, command: Sequence[str | Path], pattern: str = r"port (\d+)", *,
        cpu: int | None = SERVER_CPU, timeout: float = 30.0, cwd: Path = HERE,
        environment: Mapping[str, str] | None = None, port: int = 0,
    ) -> None:
        self.command = [*pinned(cpu), *map(str, command)]
        self.port = 0
        self._own_port = port
        self.startup = 0.0
        self.lines: deque[str] = deque(maxlen=50)
        self._pattern = re.compile(pattern)
        self._timeout = timeout
        self._cwd = cwd
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._listening = threading.Event()

    def __enter__(self) -> Server:
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, cwd=self._cwd, env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if self._own_port:
            self._wait_accepting()
        else:
            self._listening.wait(self._timeout)
        if not self.port:
            self.__exit__(None, None, None)
            raise RuntimeError(f"{' '.join(self.command)}: no port;\n" + "".join(self.lines))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pids = tree(self.process.pid)
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)  # one that was stopped could not end
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(10)
        self._reader.join(10)

    @property
    def pid(self) -> int:
        return self.process.pid

    def _wait_accepting(self) -> None:
        deadline = time.monotonic() + self._timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._own_port), timeout=1).close()
                self.port = self._own_port
                self.startup = time.perf_counter() - self.began
                return
            time.sleep(0.02)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            found = None if self._own_port else self._pattern.search(line)
            if found and not self.port:
                self.port = int(found.group(1))
                self.startup = time.perf_counter() - self.began
                self._listening.set()
        self._listening.set()


def free_port() -> int:
    """A port that nobody has at this moment, for a server that must be told one."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def python(*arguments: str | Path) -> list[str]:
    """The command that runs `arguments` by this interpreter."""
    return [sys.executable, *map(str, arguments)]


def tree(pid: int) -> list[int]:
    """`pid` and every process below it, parents first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and those below it have used, in seconds, to the microsecond."""
    nanoseconds = 0
    for each in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{each}/task").iterdir():
                nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def memory(pid: int) -> dict[str, float]:
    """Resident, proportional and unshared memory of one process, in MB (10**6 bytes)."""
    sizes = dict.fromkeys(("Rss", "Pss", "Private_Clean", "Private_Dirty"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split(":")
        if name in sizes:
            sizes[name] = int(size.split()[0]) * 1024
    return {
        "rss": sizes["Rss"] / 1e6, "pss": sizes["Pss"] / 1e6,
        "uss": (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1e6,
    }


# Rounds


def interleave(
    cases: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Measure each case once in each round, in an order that turns; after one unmeasured."""
    for measure in cases.values():
        measure()
    names = list(cases)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(cases[name]())
        if sys.stderr.isatty():
            print(f"\rround {number + 1}/{rounds}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return figures


median = statistics.median


def ratio(figures: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return median(a / b for a, b in zip(figures, base, strict=True))


def percentile(figures: Sequence[float], percent: float) -> float:
    """The figure that `percent` of them do not exceed."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


# What is printed


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under headers, the first column to the left and the others to the right."""
    cells = [[str(cell) for cell in row] for row in [headers, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def interpreter() -> str:
    """What runs here: version, compiler and how it was built, as that changes every figure."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = [flag for flag in ("--enable-optimizations", "--with-lto") if flag in arguments]
    try:
        loop = f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        loop = "no uvloop"
    return (
        f"CPython {sys.version.split()[0]} ({' '.join(built) or 'not optimised'}), {loop}, "
        f"Linux {os.uname().release}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )


def arguments(description: str | None, rounds: int = 15) -> argparse.ArgumentParser:
    """The parser that every benchmark starts with: ``--rounds`` and ``--quick``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds")
    parser.add_argument("--quick", action="store_true", help="short rounds, to try the script")
    return parser
