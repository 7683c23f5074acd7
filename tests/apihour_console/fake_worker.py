"""A process with a real agent and a loop that can be stuck on request; see test_fleet.py.

``python -m tests.apihour_console.fake_worker RUNTIME SLOT ARBITER`` reads words on its
standard input: how to get stuck, in the loop, for good.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from apihour.ipc.runtime import Runtime
from apihour.ops.agent import Agent
from apihour.ops.catalogue import command
from tests.apihour.fakes import FakeWorker


@dataclass(frozen=True)
class Greeting:
    """One greeting."""

    worker: str
    text: str


def note(path: str, worker: str) -> None:
    """A line of its own in that file."""
    with open(path, "a") as file:
        file.write(f"{worker}\n")


class Application:
    """A container with commands of its own."""

    config: dict[str, Any] = {"db": {"password": "hunter2"}}

    def __init__(self, worker: str) -> None:
        self.worker = worker

    @command(role="observer")
    async def greet(self, name: str = "you") -> list[Greeting]:
        """Say hello."""
        return [Greeting(self.worker, name)]

    @command(deadline=3.0)
    async def deliver(self, path: str, seconds: float) -> list[Greeting]:
        """Write a line there, and go on for so long."""
        note(path, self.worker)
        await asyncio.sleep(seconds)
        return [Greeting(self.worker, path)]

    @command(role="observer", deadline=3.0)
    async def look(self, path: str, seconds: float) -> list[Greeting]:
        """The same, said to change nothing."""
        return await self.deliver(path, seconds)

    @command(role="observer", scope="all")
    def greet_all(self) -> list[Greeting]:
        """Say hello from everywhere."""
        return [Greeting(self.worker, "all")]

    @command(role="observer", scope="first")
    async def race(self) -> list[Greeting]:
        """The quickest wins."""
        await asyncio.sleep(0 if self.worker.startswith("2") else 5)
        return [Greeting(self.worker, "won")]

    @command(role="observer", scope="all")
    async def ticks(self) -> AsyncIterator[Greeting]:
        """Count for ever."""
        for number in range(1 << 30):
            yield Greeting(self.worker, str(number))
            await asyncio.sleep(0.01)

    @command(role="observer")
    def broken(self) -> None:
        """Raise."""
        raise ValueError("no luck")


def stuck_in_sleep() -> None:
    time.sleep(600)


def stuck_without_gil() -> None:
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", (1 << 31) - 1)


def stuck_with_gil() -> None:
    re.match(r"(a+)+$", "a" * 200 + "b")


def stuck_in_python() -> None:
    while True:
        pass


def main() -> None:
    runtime, slot, arbiter = Runtime(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    worker = FakeWorker(runtime, None, slot, arbiter)
    worker.container = Application(worker.name)
    agent = Agent(worker)
    agent.adopt(worker.container)
    worker.sampler.install()
    agent.listen()
    agent.start()
    worker.loop.add_reader(sys.stdin.fileno(), obey, worker)
    print("ready", flush=True)
    worker.run()


def obey(worker: FakeWorker) -> None:
    word = sys.stdin.readline().strip()
    if not word:
        sys.exit()
    if word == "log":
        logging.getLogger("shop").warning("sold out")
        return
    globals()[word]()


if __name__ == "__main__":
    main()
