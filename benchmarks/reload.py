"""Requests lost while a server is reloaded again and again, and in worse events.

How to run (about 35 minutes; the peers are installed into ``--venv``, from PyPI)::

    .venv/bin/python benchmarks/reload.py [--seconds 60] [--every 1] [--quick]
        [--servers "apihour; gunicorn"] [--columns keep-alive,...]
        [--modes reload,upgrade,scale,kill,stop,sessions,import] [--venv DIR]

``reload`` compares: the same load, handlers and rhythm against each server, two workers each,
one column after another. The other modes are apihour's alone (``reload_modes.py``).

A cell is *lost / requests*: refused, reset, closed before or within the answer, timed out,
answered by 5xx, or closed under a WebSocket without a goodbye. ``+n told``: messages on their
way to a WebSocket that had just said goodbye by 1001 or 1012.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bench import arguments, interpreter, table
from reload_modes import MODES
from reload_servers import LINGER, OURS, PEERS, Subject, default_venv, environment, running

from apihour.testing import Load, Report

DEFAULT = ("apihour", "apihour, aiohttp", *PEERS)
SERVERS = ("apihour", "apihour, aiohttp", "apihour, ASGI", *PEERS)


@dataclass(frozen=True)
class Column:
    """One kind of load."""

    kind: str
    connections: int
    server: str = "http"
    path: str = "/"
    think: tuple[float, float] = (0.0, 0.0)
    wait: float = 0.02


COLUMNS = {
    "keep-alive": Column("keep-alive", 20),
    "50 ms handler": Column("keep-alive", 50, path="/slow"),
    "per request": Column("connection", 20),
    "connect, wait": Column("connect-wait", 20),
    "WebSocket": Column("websocket", 20, path="/ws", think=(0.0, 0.02)),
    "raw TCP": Column("tcp", 20, server="echo", wait=0.05),
    f"thinks {LINGER / 2:g}-{LINGER * 1.5:g} s": Column(
        "keep-alive", 200, think=(LINGER / 2, LINGER * 1.5)),
}


def measure(subject: Subject, column: Column, seconds: float, every: float) -> Report | None:
    """Reload every so often while the load runs; None where the server has no such thing."""
    address = subject.addresses.get(column.server)
    if address is None:
        return None
    load = Load(column.kind, address, connections=column.connections, path=column.path,
                think=column.think, wait=column.wait, seed=1)
    began = time.monotonic()
    with load:
        number = 1
        while (left := began + seconds - time.monotonic()) > 0:
            time.sleep(min(left, max(0.0, began + number * every - time.monotonic())))
            if began + number * every <= time.monotonic() < began + seconds:
                subject.reload()
                number += 1
    return load.report


def cell(report: Report | None) -> str:
    if report is None:
        return "-"
    told = f" +{report.told} told" if report.told else ""
    return f"{report.lost}{told} / {report.total}"


def fates(report: Report) -> str:
    counts = Counter(failure.fate.value for failure in report.failures)
    return ", ".join(f"{count} {fate}" for fate, count in counts.most_common())


def compare(options: Namespace) -> str:
    """The table of losses of all servers."""
    names = [name for name in SERVERS if name in options.servers]
    bin = environment(options.venv) if set(names) & set(PEERS) else None
    columns = {name: COLUMNS[name] for name in COLUMNS if name in options.columns}
    rows: list[list[Any]] = []
    notes: list[str] = []
    for name in names:
        seconds = options.seconds if name in OURS else options.peer_seconds or options.seconds
        row: list[Any] = [name]
        total = 0
        for title, column in columns.items():
            # A server of its own for each: no column pays for what another left behind.
            with running(name, bin) as subject:
                report = measure(subject, column, seconds, options.every)
                reloads = subject.reloads()
            row.append(cell(report))
            total += report.total if report is not None else 0
            if report is not None and report.lost:
                notes.append(f"{name}, {title}: {fates(report)}")
            if reloads >= 0:
                notes.append(f"{name}, {title}: {reloads} reloads went through")
            print(f"  {name}, {title}: {row[-1]}", file=sys.stderr, flush=True)
        rows.append([*row, total])
    return "\n".join([table(["lost / requests", *columns, "requests"], rows), "", *notes])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each column")
    parser.add_argument("--peer-seconds", type=float, help="of each column of the peers")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two reloads")
    parser.add_argument("--servers", type=_names(SERVERS), default=DEFAULT)
    parser.add_argument("--columns", type=_names(tuple(COLUMNS)), default=tuple(COLUMNS))
    parser.add_argument("--modes", type=_names(("reload", *MODES)), default=("reload", *MODES))
    parser.add_argument("--venv", type=Path, default=default_venv(), help="the peers', made here")
    options = parser.parse_args()
    if options.quick:
        options.seconds = min(options.seconds, 6.0)
    print(interpreter(), flush=True)
    for mode in options.modes:
        said = compare(options) if mode == "reload" else MODES[mode](options.seconds)
        print(f"\n{mode}\n\n{said}", flush=True)


def _names(known: tuple[str, ...]) -> Any:
    """Names apart by semicolons or commas; one with a comma in it by its own."""

    def parse(text: str) -> tuple[str, ...]:
        rest, found = text, []
        for name in sorted(known, key=len, reverse=True):
            if name in rest:
                rest = rest.replace(name, "")
                found.append(name)
        if rest.strip(" ,;"):
            raise ValueError(f"{rest.strip(' ,;')!r}; expected some of {'; '.join(known)}")
        return tuple(name for name in known if name in found)

    return parse


if __name__ == "__main__":
    main()
