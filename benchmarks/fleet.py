"""What a command over a fleet costs, to a thousand hosts: time, letters and bytes.

How to run (about a minute)::

    .venv/bin/python benchmarks/fleet.py [--hosts 10,100,250,500,750,1000] [--chart FILE.svg]

All hosts are in this process, each with the near and the far end of the shell's fleet, on a bus
that counts what it carries; only the workers are made up. ``join`` is the hello of the last host
that came, ``workers`` is ``workers --host all``, ``reload`` is ``reload --fleet``, ten at a time.
What is counted must grow as the hosts do, and not as their square: letters a host are printed.
Each size has a process of its own, so that its memory is its own: all hosts together, beyond what
the same process takes without any.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from _bench import interpreter, table
from fleet_chart import Panel, draw

sys.path.append(str(Path(__file__).parents[1]))

from tests.apihour_console.hosts.fleet_support import Fleet


class Counted:
    """Time, letters and bytes of a block."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def __enter__(self) -> Counted:
        self.began = time.perf_counter()
        self.letters, self.bytes = self.fleet.wire.sent, self.fleet.wire.bytes
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self.began
        self.letters = self.fleet.wire.sent - self.letters
        self.bytes = self.fleet.wire.bytes - self.bytes


@dataclass(frozen=True)
class Cost:
    """One command over so many hosts; `seconds`, and `memory` of the process in MB."""

    hosts: int
    what: str
    seconds: float
    letters: int
    bytes: int
    memory: float


async def measure(hosts: int) -> list[Cost]:
    """What each command costs with so many."""
    empty = _memory()
    fleet = Fleet(*(f"host-{number}" for number in range(hosts)))
    names = list(fleet.doubles)
    for name in names[:-1]:  # a thousand hellos to a thousand are not what is measured
        await fleet.join(name, hello=False)
    with Counted(fleet) as joining:
        await fleet.join(names[-1])
    for name in names:
        fleet.hosts[names[0]].members.hear(name)
    fleet.hosts[names[0]]._next_look = time.monotonic() + 3600  # it has said hello
    with Counted(fleet) as asking:
        found = await fleet.run(names[0], "workers", "--host", "all")
    assert (found.status, len(found.rows)) == (0, 2 * hosts), found
    with Counted(fleet) as reloading:
        deeds, _ = await fleet.hosts[names[0]].reload(fleet.who, 10, False)
    assert [deed.outcome for deed in deeds] == ["done"] * hosts
    for host in fleet.hosts.values():
        for task in host._reading:
            task.cancel()
    memory = _memory() - empty
    return [Cost(hosts, what, one.seconds, one.letters, one.bytes, memory)
            for what, one in (("join", joining), ("workers", asking), ("reload", reloading))]


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measure_alone(hosts: int) -> list[Cost]:
    logging.disable()
    return asyncio.run(measure(hosts))


def panels(costs: Sequence[Cost]) -> list[Panel]:
    """What the picture shows."""
    shown = (("workers", "workers --host all"), ("reload", "reload --fleet"))

    def curves(value: Callable[[Cost], float]) -> dict[str, list[tuple[int, float]]]:
        return {name: [(one.hosts, value(one)) for one in costs if one.what == what]
                for what, name in shown}

    return [Panel("time, seconds", "s", curves(lambda one: one.seconds)),
            Panel("letters on the bus", "", curves(lambda one: one.letters)),
            Panel("memory of all hosts, MB", "MB", {
                "all": [(one.hosts, one.memory) for one in costs if one.what == "workers"]})]


def main() -> None:
    """Run each size, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", default="10,100,250,500,750,1000", help="sizes, by commas")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw the curves there")
    options = parser.parse_args()
    print(interpreter())
    costs: list[Cost] = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        for found in alone.map(_measure_alone, map(int, options.hosts.split(","))):
            costs += found
    print(table(
        ["hosts", "what", "time", "letters", "letters a host", "bytes a host", "memory"],
        [[one.hosts, one.what, f"{one.seconds:.2f} s", one.letters,
          f"{one.letters / one.hosts:.1f}", f"{one.bytes / one.hosts:,.0f}",
          f"{one.memory:.0f} MB"] for one in costs]))
    if options.chart:
        options.chart.write_text(draw(
            "A command over a fleet: twice the hosts, twice the cost",
            "All hosts in one process, 2 workers each, ten reloads at a time "
            "(benchmarks/fleet.py)", panels(costs)), encoding="utf-8")


if __name__ == "__main__":
    main()
