"""What ``partition.py`` runs on each host: it writes down what it was promised, and what it got.

Each worker has a file of its own in ``APIHOUR_PARTITION``, a JSON object a line, written before
anything else is done with what it tells: what a killed worker has seen is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from pathlib import Path

import apihour
from apihour.errors import BusError, SharedError

DIRECTORY = Path(os.environ.get("APIHOUR_PARTITION", "."))
HOST = os.environ.get("APIHOUR_HOST", "host")
QUESTION = 1.0  # seconds for an answer


class Container(apihour.Container):
    binds = None
    single = {"hold"}

    async def start(self):
        self.who = f"{HOST}-{os.getpid()}"
        self.numbers = iter(range(10**9))
        self.fd = os.open(DIRECTORY / f"{self.who}.jsonl",
                          os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for work in (self.publish(), self.publish(), self.receive(), self.count(), self.swap(),
                     self.watch(), self.respond(), self.ask()):
            self.jobs.start(work, work.__name__)

    def write(self, op, **facts):
        os.write(self.fd, json.dumps({"op": op, "who": self.who, "at": time.monotonic(), **facts},
                                     separators=(",", ":")).encode() + b"\n")

    async def tried(self, op, call, told=lambda value: {}, **facts):
        """Await `call` and write down how it ended, with what `told` says of its value.

        Returns its value; None when it failed.
        """
        began, value = time.monotonic(), None
        if op in ("publish", "incr"):  # what a killed worker has sent may be done
            self.write("begin", call=op, **facts)
        try:
            value, outcome = await call, "ok"
        except (BusError, SharedError) as error:
            outcome = type(error).__name__
        except Exception as error:  # judged by the checker
            outcome = f"untyped {error!r:.200}"
        facts |= told(value) if outcome == "ok" else {}
        self.write(op, began=began, outcome=outcome, **facts)
        return value

    @property
    def is_over(self):
        return (DIRECTORY / "over").exists()

    async def pause(self, seconds):
        await asyncio.sleep(random.uniform(0.5, 1.5) * seconds)

    # -- messages --------------------------------------------------------------------------

    async def publish(self):
        while not self.is_over:
            name = f"{self.who}-{next(self.numbers)}"
            await self.tried("publish", self.bus.publish(f"orders.{HOST}", name.encode(),
                                                         durable=True), id=name)
            await self.pause(0.05)
        self.write("done")

    async def receive(self):
        async for message in self.bus.subscribe("orders.>", queue="billing", durable=True):
            self.write("deliver", id=message.data.decode(), deliveries=message.deliveries)
            await self.tried("ack", message.ack())

    async def respond(self):
        async for message in self.bus.subscribe("who", queue="who"):
            with contextlib.suppress(BusError):
                await message.reply(self.who.encode())

    async def ask(self):
        while not self.is_over:
            await self.tried("ask", self.bus.request("who", b"", QUESTION))
            await self.pause(0.2)
        self.write("done")

    # -- the store -------------------------------------------------------------------------

    async def count(self):
        while not self.is_over:
            await self.tried("incr", self.shared.incr("counter"), lambda value: {"value": value})
            await self.pause(0.15)
        self.write("done")

    async def swap(self):
        while not self.is_over:
            seen = {}
            await self.tried("read", self.shared.get("register"),
                             lambda entry, seen=seen: seen.update(state_of(entry)) or seen)
            if seen:
                expected, value = seen["revision"], f"{self.who}-{next(self.numbers)}"
                await self.tried(
                    "swap", self.shared.put("register", value.encode(), expected),
                    lambda revision: {"revision": revision}, expected=expected, value=value)
            await self.pause(0.1)
        self.write("done")

    async def watch(self):
        async for change in self.shared.watch("register"):
            self.write("watch", revision=change.revision,
                       value=None if change.value is None else change.value.decode())

    # -- the one ---------------------------------------------------------------------------

    async def hold(self, run):
        """Writes to the resource with its token, refused or not, until it is cancelled."""
        reader, writer = await asyncio.open_unix_connection(DIRECTORY / "resource")
        try:
            while True:
                writer.write(f"{run.token} {self.who}\n".encode())
                if not await reader.readline():
                    raise ConnectionError("the resource is gone")
                await asyncio.sleep(0.05)
        finally:
            writer.close()


def state_of(entry):
    """A register as it is written down; revision 0 when there is none."""
    return {"revision": entry.revision if entry else 0,
            "value": entry.value.decode() if entry else ""}
