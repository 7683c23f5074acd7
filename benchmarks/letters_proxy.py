"""Links to NATS that lose, double, delay and reorder single letters, fall silent, and break.

What a client and its server say is taken apart by NATS's client protocol, so that a fault is of one
message (PUB to the server, MSG from it) and the rest of the connection goes on. All of it runs on a
loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Letter", "Link", "Links", "Rates"]

_SEAL = 64  # bytes before the JSON of a letter
_SENT, _COME = "sent", "come"  # by the host, to the host


@dataclass(frozen=True)
class Letter:
    """One message that a link has seen; `fate`: the seconds after which each copy goes on."""

    at: float
    host: str
    way: str
    kind: str
    nonce: str
    words: tuple[str, ...]
    fate: tuple[float, ...]


@dataclass
class Rates:
    """How often a message is lost, doubled or late, 0 to 1; `late` is in seconds at most."""

    loss: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    late: float = 0.0


@dataclass
class Link:
    """The way of one host to NATS."""

    host: str
    random: random.Random
    rates: Rates = field(default_factory=Rates)
    losing: list[tuple[str, str]] = field(default_factory=list)
    """Ways and kinds of letters of which the next one is lost."""
    silent: dict[str, float] = field(default_factory=dict)
    """Until when nothing goes in that direction (``time.monotonic()``)."""
    writers: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=list)
    dropped: int = 0

    def fate(self, way: str, kind: str) -> tuple[float, ...]:
        """After how many seconds each copy goes on; none: it is lost."""
        if (way, kind) in self.losing:
            self.losing.remove((way, kind))
            return ()
        rates, chance = self.rates, self.random.random
        if chance() < rates.loss:
            return ()
        found = [self.random.uniform(0, rates.late) if chance() < rates.delay else 0.0]
        if chance() < rates.double:
            found.append(self.random.uniform(0, rates.late or 0.2))
        return tuple(found)


class Links:
    """Those of all hosts to one server."""

    def __init__(self, server: tuple[str, int], seed: int) -> None:
        self.letters: list[Letter] = []
        self.on_letter: list[Callable[[Letter], None]] = []
        self.links: dict[str, Link] = {}
        self._server = server
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Links:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, host: str) -> int:
        """A link for that host; returns its port."""
        self.links[host] = Link(host, random.Random(f"{self._seed} {host}"))
        return int(self._run(self._listen(self.links[host])))

    def call(self, action: Callable[[], None]) -> None:
        """Do it in the loop of the links."""
        self._loop.call_soon_threadsafe(action)

    def heal(self) -> None:
        """Every link is well; connections that were broken stay so."""
        for link in self.links.values():
            link.rates, link.losing, link.silent = Rates(), [], {}

    def cut(self, host: str) -> None:
        """Reset every connection of that host."""
        def reset() -> None:
            for pair in self.links[host].writers:
                for writer in pair:
                    writer.transport.abort()
        self.call(reset)

    def half_close(self, host: str, way: str) -> None:
        """End one direction of each connection; the other goes on."""
        def end() -> None:
            for near, far in self.links[host].writers:
                writer = far if way == _SENT else near
                if not writer.transport.is_closing():
                    writer.write_eof()
        self.call(end)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self, link: Link) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await self._connect(link, reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 21)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _connect(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, far = await asyncio.open_connection(*self._server, limit=1 << 21)
        except OSError:
            writer.close()
            return
        pair = writer, far
        link.writers.append(pair)
        pumps = {asyncio.ensure_future(self._pump(link, _SENT, reader, far)),
                 asyncio.ensure_future(self._pump(link, _COME, there, writer))}
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            link.writers.remove(pair)
            for one in pair:
                one.close()

    async def _pump(
        self, link: Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    ) -> None:
        """One direction, until it ends or breaks."""
        try:
            while line := await reader.readline():
                verb, frame = line[:4].upper(), line
                is_letter = verb in (b"PUB ", b"HPUB", b"MSG ", b"HMSG")
                if is_letter:
                    frame += await reader.readexactly(int(line.split()[-1]) + 2)
                while link.silent.get(way, 0.0) > time.monotonic():  # noqa: ASYNC110 - or healed
                    await asyncio.sleep(0.02)
                if writer.transport.is_closing():
                    return
                for late in self._fate(link, way, line, frame) if is_letter else (0.0,):
                    if late:
                        self._loop.call_later(late, _write, writer, frame)
                    else:
                        _write(writer, frame)
        except (OSError, EOFError):
            pass  # as its ends have it

    def _fate(self, link: Link, way: str, line: bytes, frame: bytes) -> tuple[float, ...]:
        try:
            told = json.loads(frame[len(line) + _SEAL:-2])
        except ValueError:
            told = {}  # no letter of the fleet
        if not told:
            return (0.0,)
        kind = str(told.get("kind") or ("state" if "state" in told else "answer" if
                                        "columns" in told else "other"))
        fate = link.fate(way, kind)
        link.dropped += not fate
        letter = Letter(time.monotonic(), link.host, way, kind,
                        str(told.get("nonce") or told.get("to") or ""),
                        tuple(map(str, told.get("words", ()))), fate)
        self.letters.append(letter)
        for hear in list(self.on_letter):
            hear(letter)
        return fate

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    if not writer.transport.is_closing():
        try:
            writer.write(frame)
        except RuntimeError:  # after write_eof()
            pass
