"""Rows that go on: those of several hosts, as they come.

Rules:

- Who sends rows gives a sign every two seconds, beside them. Who gives none any more is told to be
  gone, in a row, and is asked again until it answers: it may come back.
- It ends when every host has ended; one that is gone is not waited for then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from apihour.bus import Bus, BusError
from apihour.errors import ApihourError
from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Call
from apihour_console.hosts.far_answers import of_host

__all__ = ["Following"]

_SILENT = 5.0  # seconds without a sign until a host is taken to be gone
_LOOK = 0.2  # seconds between two looks whether it is
_AGAIN = 2.0  # seconds between two attempts to take one up again
_WAITING = 1000  # rows
_GONE = "no sign of it any more: it, its console or the way to it is gone; asked again"

Row = dict[str, Any]


class Following:
    """One stream, of several hosts."""

    def __init__(
        self, bus: Bus, opened: Callable[[str, bytes], Mapping[str, Any] | None],
        closed: Callable[[str, Mapping[str, Any]], bytes], call: Call,
        begin: Callable[[str, str], Awaitable[str]],
    ) -> None:
        """`begin` has a host send its rows under a number, and returns why it does not.

        It raises CommandFailed, of kind ``timeout`` when the host does not answer. `opened` is what
        a letter to a subject says, `closed` makes one.
        """
        self._bus = bus
        self._opened = opened
        self._closed = closed
        self._call = call
        self._begin = begin
        self._number = os.urandom(8).hex()
        self._queue: asyncio.Queue[Row | None] = asyncio.Queue(_WAITING)
        self._heard: dict[str, float] = {}
        self._ended: set[str] = set()
        self._running: set[str] = set()
        self._asked: frozenset[str] = frozenset()

    async def rows(
        self, names: Sequence[str], own: str, own_rows: Callable[[], AsyncGenerator[Row, None]],
    ) -> AsyncGenerator[Row, None]:
        """Those of `names`; of the host `own` they are `own_rows`, which come without the bus."""
        self._running, self._asked = set(names), frozenset(names)
        async with (
            self._bus.subscribe(f"_apihour.stream.{self._number}") as rows,
            self._bus.subscribe(f"_apihour.hold.{self._number}") as holds,
        ):
            tasks = [asyncio.create_task(one) for one in (
                self._hold(holds), self._receive(rows),
                *(self._near(name, own_rows) if name == own else self._far(name)
                  for name in names))]
            try:
                left = len(names)
                while left:
                    row = await self._queue.get()
                    left -= row is None
                    if row is not None:
                        yield row
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _near(self, name: str, rows: Callable[[], AsyncGenerator[Row, None]]) -> None:
        problem = ""
        try:
            async with contextlib.aclosing(rows()) as found:
                async for row in found:
                    await self._queue.put({"host": name, **row})
        except ApihourError as error:
            problem = str(error)
        await self._end(name, problem)

    async def _far(self, name: str) -> None:
        """Follow a host, until it has ended, or is gone and nobody else goes on."""
        is_told = False
        while True:
            problem, is_gone = await self._try(name)
            if not problem:
                is_told = False
                problem, is_gone = await self._ends(name)
            if not is_gone:
                return await self._end(name, problem)
            if not is_told:
                is_told = True
                await self._queue.put(self._told(name, problem))
            self._running.discard(name)
            if not self._running:
                return await self._end(name, "")
            await asyncio.sleep(_AGAIN)

    async def _try(self, name: str) -> tuple[str, bool]:
        """Why it does not begin, and whether that is because it is gone."""
        try:
            problem = await self._begin(name, self._number)
        except CommandFailed as error:
            return str(error), error.kind == "timeout"
        except ApihourError as error:
            return str(error), False
        if not problem:
            self._running.add(name)
            self._heard[name] = time.monotonic()
        return problem, False

    async def _ends(self, name: str) -> tuple[str, bool]:
        """Wait until it has ended, or gives no sign any more."""
        while name not in self._ended:
            if time.monotonic() - self._heard[name] > _SILENT:
                return _GONE, True
            await asyncio.sleep(_LOOK)
        return "", False

    async def _end(self, name: str, problem: str) -> None:
        self._running.discard(name)
        if problem:
            await self._queue.put(self._told(name, problem))
        await self._queue.put(None)

    def _told(self, name: str, problem: str) -> Row:
        """A row that says why a host has none."""
        columns = [one.name for one in self._call.command.columns]
        return {"host": name, **dict.fromkeys(columns), "message": problem}

    async def _receive(self, rows: Any) -> None:
        async for message in rows:
            letter = self._opened(f"_apihour.stream.{self._number}", message.data)
            if letter is None:
                continue
            host, row = str(letter.get("host")), letter.get("row")
            if host not in self._asked:
                continue
            self._heard[host] = time.monotonic()
            if isinstance(row, dict):
                await self._queue.put(of_host(host, row))
            elif letter.get("end") and host not in self._ended:
                self._ended.add(host)
                if letter.get("error"):
                    await self._queue.put(self._told(host, str(letter["error"])))

    async def _hold(self, holds: Any) -> None:
        """Tell those who send that their rows are still read, and hear that they are there."""
        async for message in holds:
            hold = f"_apihour.hold.{self._number}"
            letter = self._opened(hold, message.data)
            host = str(letter.get("host")) if letter is not None else ""
            if host in self._asked:
                self._heard[host] = time.monotonic()
                with contextlib.suppress(BusError):
                    await message.reply(self._closed(f"{hold}.{host}", {}))
