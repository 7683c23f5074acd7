"""The embedded bus: a round trip, messages a second, and what a slow or stopped subscriber costs.

How to run (about half a minute)::

    .venv/bin/python benchmarks/bus.py [--rounds 15] [--quick]

Two processes on two CPUs, over unix sockets in ``/dev/shm``; 64 bytes of data. It prints
microseconds of a request and its answer, the messages a second that arrive while the sender never
waits (and how many of them were dropped and told), the same beside a third process that is
stopped, and beside one that takes 1 ms for each message. Goals: 50 µs, 100,000 messages a second.
Three processes want three CPUs: what the third costs the sender itself, whoever else wants the
CPUs, is told by the CPU time of a message there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _bench import (
    LOAD_CPU,
    SERVER_CPU,
    arguments,
    interpreter,
    median,
    percentile,
    pinned,
    python,
    table,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apihour.bus import Bus, Gap, open_bus

DATA = b"x" * 64


async def serve(directory: str, delay: str) -> None:
    """A child: answer what is asked; count, and say at the end how many came, and when."""
    bus = open_bus(None, directory)
    async with bus.subscribe("ask") as asked, bus.subscribe("flood", gaps=True) as flood:
        print("ready", flush=True)
        answering = asyncio.ensure_future(answer(asked))
        count = missed = 0
        began = last = 0.0
        async for event in flood:
            if isinstance(event, Gap):
                missed += event.missed or 0
            elif event.data == b"end":
                print(count, missed, last - began, flush=True)
                count = missed = 0
            else:
                last = time.perf_counter()
                began = began if count else last
                count += 1
                if float(delay):
                    await asyncio.sleep(float(delay))
        answering.cancel()


async def answer(asked: object) -> None:
    async for message in asked:  # type: ignore[attr-defined]
        await message.reply(message.data)


class Child:
    """A subscriber in a process of its own."""

    def __init__(self, directory: str, cpu: int | None = None, delay: float = 0.0) -> None:
        self.process = subprocess.Popen(
            [*pinned(cpu), *python(__file__, "serve", directory, delay)], text=True,
            stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self._lines = self.process.stdout
        assert self._lines.readline() == "ready\n"

    async def report(self) -> list[float]:
        return [float(word) for word in (await asyncio.to_thread(self._lines.readline)).split()]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


async def round_trips(bus: Bus, number: int) -> list[float]:
    """Microseconds of each."""
    taken = []
    for _ in range(number):
        began = time.perf_counter()
        await bus.request("ask", DATA, timeout=10)
        taken.append((time.perf_counter() - began) * 1e6)
    return taken


async def flood(bus: Bus, child: Child, number: int) -> tuple[float, float, float, float]:
    """Messages a second sent, and arrived; the share that is dropped; the sender's CPU, µs each."""
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(number):
        await bus.publish("flood", DATA)
    sent = number / (time.perf_counter() - began)
    cost = (time.process_time() - cpu) / number * 1e6
    await asyncio.sleep(0.2)
    await bus.publish("flood", b"end")
    count, missed, seconds = await child.report()
    return sent, count / seconds, missed / number, cost


async def measure(directory: str, rounds: int, quick: bool) -> None:
    number = 2_000 if quick else 20_000
    child, bus = Child(directory, SERVER_CPU), open_bus(None, directory)
    rows: list[list[object]] = []
    taken = [one for _ in range(rounds) for one in await round_trips(bus, number // 10)]
    rows.append(["round trip, µs: best tenth, median, p99", *(
        f"{percentile(taken, share):.0f}" for share in (10, 50, 99)), ""])

    async def row(name: str) -> None:
        results = [await flood(bus, child, number) for _ in range(rounds)]
        rows.append([name, *(f"{median([one[k] for one in results]):,.0f}" for k in (0, 1)),
                     f"{median([one[2] for one in results]):.1%}",
                     f"{median([one[3] for one in results]):.2f} µs"])

    await row("messages a second: sent, arrived; dropped; CPU of the sender")
    slow = Child(directory, delay=0.001)
    await row("beside one that takes 1 ms for each")
    slow.process.send_signal(signal.SIGSTOP)
    await row("beside one that is stopped")
    slow.end()
    child.end()
    await bus.close()
    print(table([""] * 5, rows))


def main() -> None:
    options = arguments(__doc__).parse_args()
    print(interpreter())
    if hasattr(os, "sched_setaffinity") and LOAD_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {LOAD_CPU})
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="apihour-bench-") as directory:
        run(measure(directory, 3 if options.quick else options.rounds, options.quick))


def run(work: object) -> None:
    try:
        import uvloop
        factory = uvloop.new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)  # type: ignore[arg-type]


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        run(serve(*sys.argv[2:]))
    else:
        main()
