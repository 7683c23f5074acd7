"""Forwarders of TCP between the hosts of ``partition.py``, any direction of which can be cut.

What is cut is not refused and not closed: it waits, as packets that are sent again do, and goes on
when the link is there again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any

__all__ = ["Forwarder", "free_ports"]

_AT_ONCE = 65536  # bytes


def free_ports(address: str, count: int) -> list[int]:
    """So many that nobody listens on."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server((address, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in found]


class Forwarder:
    """All of them, on a loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: dict[tuple[int, int], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._servers: list[asyncio.Server] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End every connection."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def forward(self, link: tuple[int, int], address: str, target: tuple[str, int]) -> int:
        """Listen for `link`, of a host to another one, at that address; returns the port."""
        return self._run(self._listen(link, address, target))

    def cut(self, source: int, target: int) -> None:
        """Nothing goes from `source` to `target` any more."""
        self._loop.call_soon_threadsafe(lambda: self._open[source, target].clear())

    def join(self, source: int, target: int) -> None:
        """It does again, with what has waited."""
        self._loop.call_soon_threadsafe(lambda: self._open[source, target].set())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(
        self, link: tuple[int, int], address: str, target: tuple[str, int]
    ) -> int:
        for each in (link, link[::-1]):
            if each not in self._open:
                self._open[each] = asyncio.Event()
                self._open[each].set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await self._connect(link, reader, writer, target)

        server = await asyncio.start_server(serve, address, 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _connect(
        self, link: tuple[int, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
        target: tuple[str, int],
    ) -> None:
        try:
            await self._open[link].wait()
            await self._open[link[::-1]].wait()
            there = await asyncio.open_connection(*target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(link, reader, there[1]))
                    group.create_task(self._pump(link[::-1], there[0], writer))
            finally:
                there[1].close()
        except* (OSError, _Ended):
            pass  # as its ends have it
        finally:
            writer.close()

    async def _pump(
        self, link: tuple[int, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Raises _Ended at the end, which ends the other direction too."""
        while data := await reader.read(_AT_ONCE):
            await self._open[link].wait()
            writer.write(data)
            await writer.drain()
        await self._open[link].wait()
        raise _Ended

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Ended(Exception):
    """One side has sent its end."""
