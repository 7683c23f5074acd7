"""What every server of a plugin must do, as tests that its author runs in three lines.

>>> class TestGopher(Conformance):
...     def make(self): return GopherServer(menu)
...     async def talk(self, reader, writer): writer.write(b"x"); assert await reader.read(1)

Rules:

- Real sockets, the worker's own stages of accepting and its connection table; no processes.
- ``talk`` is one conversation on an open connection, and leaves it open; a protocol whose server
  closes after each says ``closes = True``.
- Each test runs on every event loop that is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apihour.plugins import Server, ServerContext, is_server
from apihour.worker.accept import Acceptor
from apihour.worker.connections import ConnectionTable

__all__ = ["Conformance", "Stage"]

PATIENCE = 30.0  # seconds that anything may take on a busy machine
DRAIN = 1.0  # seconds of a deadline that is meant to pass
LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


class Stage:
    """One server, started, on a port of its own, as a worker has it."""

    def __init__(self, server: Any, limit: int = 0) -> None:
        self.server = server
        self.failures: list[dict[str, Any]] = []
        self.table = ConnectionTable("1.1")
        self._limit = limit
        self._before = asyncio.all_tasks()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        """Start the server, then accept."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, about: self.failures.append(about))
        logger = logging.getLogger("apihour.conformance")
        await self.server.start(ServerContext("tested", None, loop, logger))
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.acceptor = Acceptor(
            "tested", self.sock, self.server, self.table, loop, logger, limit=self._limit)
        self.acceptor.start()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client of it."""
        reader, writer = await asyncio.open_connection(*self.sock.getsockname())
        self._writers.append(writer)
        return reader, writer

    async def drain(self, seconds: float) -> float:
        """Have it retire as a worker would; returns the seconds that took."""
        self.acceptor.stop()
        began = time.monotonic()
        deadline = asyncio.get_running_loop().time() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + PATIENCE):
                await self.server.drain(deadline)
        return time.monotonic() - began

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition. Raises AssertionError naming it."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """End everything, and see that nothing is left."""
        if hasattr(self, "acceptor"):
            self.acceptor.stop()
        try:
            await asyncio.wait_for(self.server.stop(), PATIENCE)
            await self.until(lambda: not len(self.table), "stop() to close every connection")
        finally:
            for row in self.table:
                row.close()  # as a worker does at its end
            for writer in self._writers:
                writer.close()
            if hasattr(self, "sock"):
                self.sock.close()
            await asyncio.sleep(0)  # transports end in the next turn, and a closed loop has none
        await self.until(lambda: asyncio.all_tasks() <= self._before,
                         f"stop() to end its tasks: {asyncio.all_tasks() - self._before}")


@contextlib.asynccontextmanager
async def staged(server: Any, **options: Any) -> AsyncIterator[Stage]:
    """A :class:`Stage` that is open, and closed whatever happens."""
    stage = Stage(server, **options)
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


def _run(loop: str, test: Callable[[], Any]) -> None:
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(test(), 4 * PATIENCE))


@pytest.mark.parametrize("loop", LOOPS)
class Conformance:
    """Derive from it, in a class whose name pytest collects."""

    closes = False
    """Whether the server closes a connection after each conversation."""

    def make(self) -> Server:
        """A new server, not started."""
        raise NotImplementedError("Conformance.make(): expected one that returns a server")

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One conversation. Raises when it is not as it should be."""
        raise NotImplementedError("Conformance.talk(): expected one that talks to the server")

    def test_it_has_the_shape_of_a_server(self, loop: str) -> None:
        """Plugins' registries look for it."""

        async def test() -> None:
            server = self.make()
            assert is_server(server, "stream"), f"{server!r} is no apihour.plugins.Server"
            assert server.protocol and isinstance(server.protocol, str)

        _run(loop, test)

    def test_two_clients_talk_at_once_and_it_counts_them(self, loop: str) -> None:
        """Its figures are JSON, and rows are in the table while connections are open."""

        async def test() -> None:
            async with staged(self.make()) as stage:
                ends = [await stage.connect() for _ in range(2)]
                await asyncio.gather(*(self.talk(*end) for end in ends))
                if not self.closes:
                    await asyncio.gather(*(self.talk(*end) for end in ends))
                    assert len(stage.table) == 2
                    names = {row.server.partition("/")[0] for row in stage.table}
                    assert names == {"tested"}, names
                json.dumps(stage.server.statistics())
                for _, writer in ends:
                    writer.close()
                await stage.until(lambda: not len(stage.table), "rows to go with connections")
                assert not stage.failures, stage.failures

        _run(loop, test)

    def test_a_limit_makes_the_next_one_wait(self, loop: str) -> None:
        """Who waits in the backlog is served when another leaves."""

        async def test() -> None:
            async with staged(self.make(), limit=1) as stage:
                _, first = await stage.connect()
                await stage.until(lambda: len(stage.table) == 1, "the first connection")
                reader, writer = await stage.connect()
                waiting = asyncio.ensure_future(self.talk(reader, writer))
                done, _ = await asyncio.wait([waiting], timeout=0.1)
                assert not done and len(stage.table) == 1
                first.close()
                await asyncio.wait_for(waiting, PATIENCE)

        _run(loop, test)

    def test_a_kicked_connection_ends_and_the_others_do_not_notice(self, loop: str) -> None:
        """As by ``kick`` in the shell."""

        async def test() -> None:
            async with staged(self.make()) as stage:
                victim, _ = await stage.connect()
                await stage.until(lambda: len(stage.table) == 1, "the first connection")
                (row,) = stage.table
                other = await stage.connect()
                await stage.until(lambda: len(stage.table) == 2, "the second connection")
                row.close("kicked")
                with contextlib.suppress(ConnectionError):
                    while await asyncio.wait_for(victim.read(65536), PATIENCE):
                        pass
                await stage.until(lambda: len(stage.table) == 1, "its row to go")
                await self.talk(*other)
                assert not stage.failures, stage.failures

        _run(loop, test)

    def test_drain_ends_with_the_last_connection(self, loop: str) -> None:
        """What is under way may finish, and the worker leaves when all have gone."""

        async def test() -> None:
            async with staged(self.make()) as stage:
                reader, writer = await stage.connect()
                await stage.until(lambda: len(stage.table) == 1, "the connection")
                draining = asyncio.ensure_future(stage.drain(PATIENCE))
                await asyncio.sleep(0.05)
                with contextlib.suppress(AssertionError, ConnectionError,
                                         asyncio.IncompleteReadError):  # it may close
                    await self.talk(reader, writer)
                writer.close()
                await stage.until(lambda: not len(stage.table), "the connection to go")
                assert await asyncio.wait_for(draining, PATIENCE) < PATIENCE
                json.dumps(stage.server.statistics())

        _run(loop, test)

    def test_drain_returns_at_its_deadline(self, loop: str) -> None:
        """Whoever stays connected keeps no worker."""

        async def test() -> None:
            async with staged(self.make()) as stage:
                await stage.connect()
                await stage.until(lambda: len(stage.table) == 1, "the connection")
                taken = await stage.drain(DRAIN)
                assert taken < DRAIN + PATIENCE, f"drain took {taken:.1f} s of {DRAIN:g}"

        _run(loop, test)

    def test_stop_ends_what_is_left_and_may_come_before_a_start(self, loop: str) -> None:
        """So after a start that failed, and in the middle of conversations."""

        async def test() -> None:
            await asyncio.wait_for(self.make().stop(), PATIENCE)
            async with staged(self.make()) as stage:
                ends = [await stage.connect() for _ in range(3)]
                await self.talk(*ends[0])
            # Nothing is left: staged() has looked.

        _run(loop, test)
