"""The streams of all workers as one; workers that come later are joined."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from apihour.ipc.runtime import Runtime
from apihour.ops.model import CommandFailed, Role
from apihour_console.calls.call import Call
from apihour_console.fleet.census import Seen
from apihour_console.fleet.choice import fitness, target
from apihour_console.fleet.link import Link, Unreachable

__all__ = ["Pumps"]

_LOOK = 1.0  # seconds between looks for new workers
_PENDING = 1000  # rows of a stream not taken yet, over all workers


class _Chooser(Protocol):
    """The fleet, as far as it is needed here."""

    runtime: Runtime

    def choose(self, selector: str = "all") -> list[Seen]: ...


class Pumps:
    """One call's streams: iterate ``rows()``, then ``close()``."""

    def __init__(self, fleet: _Chooser, call: Call, role: Role) -> None:
        self.fleet = fleet
        self.call = call
        self.role = role
        self.queue: asyncio.Queue[dict[str, Any] | CommandFailed] = asyncio.Queue(_PENDING)
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        self.join(self.fleet.choose(target(self.call)))
        looked = time.monotonic()
        while True:
            row: dict[str, Any] | CommandFailed | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    row = await self.queue.get()
            if row is None and not self.call.follows and self._is_over():
                return
            if time.monotonic() - looked >= _LOOK:
                self.join_new()
                looked = time.monotonic()
            if isinstance(row, CommandFailed):
                raise row
            if row is not None:
                yield row

    def _is_over(self) -> bool:
        return all(task.done() for task in self.tasks.values())

    def join_new(self) -> None:
        if self.call.command.scope != "all":
            return
        with contextlib.suppress(CommandFailed):  # those it named are gone: others may come
            self.join(self.fleet.choose(target(self.call)), late=True)

    def join(self, workers: Sequence[Seen], late: bool = False) -> None:
        """Begin the streams of those workers; all the past of one that came `late` is new."""
        arguments = dict(self.call.arguments)
        if late and "lines" in arguments:
            arguments["lines"] = _PENDING
        if self.call.command.scope != "all":
            workers = sorted(workers, key=fitness)[:1]
        for one in workers:
            if one.row.pid not in self.tasks and not one.is_stopped:
                self.tasks[one.row.pid] = asyncio.create_task(self.pump(one, arguments))

    async def pump(self, worker: Seen, arguments: Mapping[str, Any]) -> None:
        link = Link(self.fleet.runtime.agent_socket(worker.row.pid))
        stream = link.stream(self.call.command.name, arguments, self.role)
        try:
            async for row in stream:
                await self.queue.put(row)
        except Unreachable:
            if self.call.command.scope != "all":
                await self.queue.put(CommandFailed(f"worker {worker.row.worker}: it is gone"))
        except CommandFailed as error:
            await self.queue.put(error)

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
