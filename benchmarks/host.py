"""What the host costs: the same protocol or application with apihour, and without.

How to run (about four minutes; wrk is used where it is installed)::

    .venv/bin/python benchmarks/host.py [--rounds 15] [--quick]

Each pair runs in the same rounds, one worker on CPU 1, the load on CPU 0:

- raw TCP echo in a container, and the bare event loop's own server;
- an aiohttp application in a container, and on ``aiohttp.GunicornUVLoopWebWorker``, asked by
  requests that differ, those of the case (a) of ``http.py``;
- accepting: CPU time of a connection that brings one byte, in the same two echo servers;
- from the command to the first answer, next to the time that the application's import takes;
- memory of each worker.

The rate's ratio is what counts (apihour / without); the CPU's ratio should be its inverse.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from _bench import (
    HERE,
    LOAD_CPU,
    Server,
    arguments,
    cpu_seconds,
    interleave,
    interpreter,
    median,
    memory,
    pinned,
    python,
    ratio,
    table,
    tree,
)
from http_load import script

LOAD = HERE / "load"
BIN = Path(sys.executable).parent
PORT = r"127\.0\.0\.1:([1-9]\d*)"
CONNECTIONS = 32
HOUSES = 3  # times that all servers are started anew: each process has luck of its own
GOALS = {"echo": ">= 0.97", "aiohttp": ">= 0.98"}
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def hosted(target: str, bind: str) -> Server:
    return Server(
        [BIN / "apihour", target, "-b", f"{bind}=127.0.0.1:0", "--workers", "1", "--no-console"],
        PORT, cwd=LOAD,
    )


def bare_echo() -> Server:
    return Server(python(LOAD / "echo_app.py"), cwd=LOAD)


def gunicorn() -> Server:
    return Server(
        [BIN / "gunicorn", "web_app:application", "-k", "aiohttp.GunicornUVLoopWebWorker",
         "-w", "1", "-b", "127.0.0.1:0", "--no-control-socket"], PORT, cwd=LOAD,
    )


SERVERS: dict[str, Callable[[], Server]] = {
    "echo, apihour": lambda: hosted("echo_app:Container", "echo"),
    "echo, bare": bare_echo,
    "aiohttp, apihour": lambda: hosted("web_app:Container", "http"),
    "aiohttp, gunicorn": gunicorn,
}


def run(command: list[str]) -> str:
    return subprocess.run(
        [*pinned(LOAD_CPU), *command], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def load(kind: str, port: int, seconds: int) -> float:
    """Answers in a second."""
    if shutil.which("wrk") is None:
        return float(run(python(
            LOAD / "pump.py", kind, str(port), str(CONNECTIONS), str(seconds)
        )))
    with contextlib.nullcontext(LOAD / "echo.lua") if kind == "echo" else script("query") as lua:
        said = run([
            "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(lua),
            f"http://127.0.0.1:{port}/",
        ])
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk: {said}")
    return float(found.group(1))


def connect(port: int, seconds: int) -> float:
    """Connections in a second."""
    return float(run(python(LOAD / "connect.py", str(port), str(seconds))))


class Case:
    """One measure of one server: the rate is returned, CPU time each is kept beside it."""

    def __init__(self, server: Server, measure: Callable[[int, int], float],
                 seconds: int) -> None:
        self.server = server
        self.measure = measure
        self.seconds = seconds
        self.cpu: list[float] = []

    def __call__(self) -> float:
        before = cpu_seconds(self.server.pid)
        rate = self.measure(self.server.port, self.seconds)
        self.cpu.append((cpu_seconds(self.server.pid) - before) / (rate * self.seconds) * 1e6)
        return rate


def throughput(
    rounds: int, seconds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[dict[str, float]]]]:
    """Rates, CPU microseconds each, and the memory of workers, by case."""
    rates: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    sizes: dict[str, list[dict[str, float]]] = {}
    for _ in range(HOUSES):
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(make()) for name, make in SERVERS.items()}
            for server in servers.values():
                wait_accepting(server)
            cases = {}
            for name, server in servers.items():
                kind = "echo" if name.startswith("echo") else "http"
                cases[name] = Case(server, lambda p, s, k=kind: load(k, p, s), seconds)  # type: ignore[misc]
            for name in ("echo, apihour", "echo, bare"):
                cases[name.replace("echo", "accept")] = Case(servers[name], connect, seconds)
            for name, figures in interleave(cases, -(-rounds // HOUSES)).items():
                rates.setdefault(name, []).extend(figures)
                cpu.setdefault(name, []).extend(cases[name].cpu[1:])
            for name, server in servers.items():
                sizes.setdefault(name, []).append(memory(tree(server.pid)[-1]))
    return rates, cpu, sizes


def wait_accepting(server: Server) -> None:
    """Return when the server has sent something back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(REQUEST)
        if not sock.recv(1):
            raise RuntimeError("closed without an answer:\n" + "".join(server.lines))


def startup(name: str) -> float:
    """Seconds from the command to the first answer."""
    with SERVERS[name]() as server:
        wait_accepting(server)
        return time.perf_counter() - server.began


def import_time(module: str) -> float:
    """Seconds that an interpreter takes longer when it imports `module`."""
    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([*pinned(1), *python("-c", code)], check=True, cwd=LOAD)
        return time.perf_counter() - began
    return seconds(f"import {module}") - seconds("pass")


def startups(rounds: int) -> list[list[object]]:
    figures = interleave({
        **{name: lambda n=name: startup(n) for name in SERVERS if "bare" not in name},  # type: ignore[misc]
        "import echo_app": lambda: import_time("echo_app"),
        "import web_app": lambda: import_time("web_app"),
    }, rounds)
    rows: list[list[object]] = []
    for name, module in (("echo, apihour", "echo_app"), ("aiohttp, apihour", "web_app"),
                         ("aiohttp, gunicorn", "web_app")):
        imports = median(figures[f"import {module}"])
        rows.append([name, f"{median(figures[name]):.2f}", f"{imports:.2f}",
                     f"<= {1 + 2 * imports:.2f}" if "apihour" in name else ""])
    return rows


def compared(
    rates: dict[str, list[float]], cpu: dict[str, list[float]]
) -> list[list[object]]:
    rows: list[list[object]] = []
    for kind, base in (("echo", "bare"), ("aiohttp", "gunicorn"), ("accept", "bare")):
        ours, theirs = f"{kind}, apihour", f"{kind}, {base}"
        rows.append([
            f"{kind} / {base}", f"{median(rates[ours]):,.0f}", f"{median(rates[theirs]):,.0f}",
            f"{ratio(rates[ours], rates[theirs]):.3f}", GOALS.get(kind, ""),
            f"{median(cpu[ours]):.1f}", f"{median(cpu[theirs]):.1f}",
            f"{ratio(cpu[ours], cpu[theirs]):.3f}",
        ])
    return rows


def main() -> None:
    options = arguments(__doc__).parse_args()
    print(f"{interpreter()}, loaded by {'wrk' if shutil.which('wrk') else 'pump.py'}", flush=True)
    rounds = 3 if options.quick else options.rounds
    rates, cpu, sizes = throughput(rounds, 1)  # wrk takes whole seconds only
    print(table(
        ["in a second", "apihour", "without", "ratio", "goal", "CPU µs", "without", "ratio"],
        compared(rates, cpu),
    ), end="\n\n")
    print(table(
        ["worker's memory, MB", "resident", "proportional", "unshared"],
        [[name, *(f"{median(size[kind] for size in found):.1f}" for kind in ("rss", "pss", "uss"))]
         for name, found in sizes.items()],
    ), end="\n\n", flush=True)
    print(table(
        ["start to first answer, s", "median", "import", "goal"], startups(rounds)
    ))


if __name__ == "__main__":
    main()
