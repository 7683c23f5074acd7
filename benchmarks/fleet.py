"""What a command over a fleet costs, to a thousand hosts: time, letters and bytes.

How to run (about a minute)::

    .venv/bin/python benchmarks/fleet.py [--hosts 10,30,100,300,1000]

All hosts are in this process, each with the near and the far end of the shell's fleet, on a bus
that counts what it carries; only the workers are made up. ``join`` is the hello of the last host
that came, ``workers`` is ``workers --host all``, ``reload`` is ``reload --fleet``, ten at a time.
What is counted must grow as the hosts do, and not as their square: letters a host are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import time
from pathlib import Path

from _bench import interpreter, table

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


async def measure(hosts: int) -> list[list[object]]:
    """The rows of one size."""
    fleet = Fleet(*(f"host-{number}" for number in range(hosts)))
    names = list(fleet.doubles)
    for name in names[:-1]:  # a thousand hellos to a thousand are not what is measured
        await fleet.join(name, hello=False)
    with Counted(fleet) as joining:
        await fleet.join(names[-1])
    for name in names:
        fleet.hosts[names[0]].members.hear(name)
    with Counted(fleet) as asking:
        found = await fleet.run(names[0], "workers", "--host", "all")
    assert (found.status, len(found.rows)) == (0, 2 * hosts), found
    with Counted(fleet) as reloading:
        deeds, _ = await fleet.hosts[names[0]].reload(fleet.who, 10, False)
    assert [deed.outcome for deed in deeds] == ["done"] * hosts
    for host in fleet.hosts.values():
        for task in host._reading:
            task.cancel()
    return [[hosts, what, f"{one.seconds:.2f} s", one.letters, f"{one.letters / hosts:.1f}",
             f"{one.bytes / hosts:,.0f}"]
            for what, one in (("join", joining), ("workers", asking), ("reload", reloading))]


def main() -> None:
    """Run each size and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", default="10,30,100,300,1000", help="sizes, by commas")
    options = parser.parse_args()
    logging.disable()
    print(interpreter())
    rows: list[list[object]] = []
    for hosts in map(int, options.hosts.split(",")):
        rows += asyncio.run(measure(hosts))
    print(table(["hosts", "what", "time", "letters", "letters a host", "bytes a host"], rows))
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most, "
          "of all hosts together")


if __name__ == "__main__":
    main()
