"""Two ways to serve a plugin's server in a test: plain asyncio, and the core's table.

Used by the tests of every plugin: ``serve(server, way)`` yields the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from apihour.plugins import ServerContext
from apihour.worker.connections import ConnectionTable

WAYS = ("plain", "core")


def context(name: str = "srv", **facts: Any) -> ServerContext:
    """A context as a worker would give it, logging to ``test.<name>``."""
    loop = asyncio.get_running_loop()
    return ServerContext(name=name, container=None, loop=loop,
                         logger=logging.getLogger(f"test.{name}"), **facts)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for `condition`; fails when it takes longer than `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Serving:
    """One server being served; ``stop_accepting`` is what precedes a drain."""

    def __init__(self, server: Any, port: int) -> None:
        self.server = server
        self.port = port
        self.table = ConnectionTable("1.1")
        self.accepting: list[Any] = []
        self.watching: set[asyncio.Task[None]] = set()

    def stop_accepting(self) -> None:
        for closable in self.accepting:
            closable()
        self.accepting.clear()

    async def drain(self, seconds: float = 5.0) -> float:
        """Stop accepting and drain; returns how long it took, in seconds."""
        loop = asyncio.get_running_loop()
        self.stop_accepting()
        begun = loop.time()
        await self.server.drain(begun + seconds)
        return loop.time() - begun

    async def accept(self, listener: socket.socket) -> None:
        """The least of an accept loop: a row per connection, gone with its descriptor."""
        loop = asyncio.get_running_loop()
        while True:
            sock, peer = await loop.sock_accept(listener)
            sock.setblocking(False)
            row = self.table.add(sock, "srv", self.server.protocol, peer)
            transport, _ = await loop.connect_accepted_socket(
                lambda row=row: self.server.stream(row), sock)
            row.transport = transport
            self.watching.add(loop.create_task(self.watch(row)))

    async def watch(self, row: Any) -> None:
        await until(lambda: row.sock.fileno() == -1 or _closed(row.transport))
        self.table.remove(row)


def _closed(transport: Any) -> bool:
    return transport.is_closing() and not transport.get_write_buffer_size()


@contextlib.asynccontextmanager
async def serve(server: Any, way: str = "core", ctx: Any = None) -> AsyncIterator[Serving]:
    """Start `server`, serve it on a port of the loopback, stop it at the end."""
    loop = asyncio.get_running_loop()
    await server.start(ctx or context())
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    serving = Serving(server, listener.getsockname()[1])
    if way == "plain":
        plain = await loop.create_server(server.stream, sock=listener)
        serving.accepting.append(plain.close)
    else:
        task = loop.create_task(serving.accept(listener))
        serving.accepting += [task.cancel, listener.close]
    try:
        yield serving
    finally:
        serving.stop_accepting()
        await server.stop()
