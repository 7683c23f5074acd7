"""What happened, in the order of time: ``logs`` of workers and arbiter, and ``events``.

Rules:

- The arbiter keeps its last log records; they are asked for by number, so nobody gets one twice.
- An event is a line of the arbiter's at level info or above (starts, ends, reloads, deaths) or
  what an operator did, and why it failed. Who did it is told; from where, the audit log tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from apihour.ops.annotations import LoggerName, Short
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.process import Level, LogRow
from apihour.ops.model import CommandFailed, Role
from apihour.ops.rows import stamp, to_rows
from apihour_console.calls.call import latest
from apihour_console.fleet.context import ConsoleContext
from apihour_console.fleet.link import Unreachable
from apihour_console.shell.audit import AuditRecord

__all__ = ["commands"]

commands = Catalogue()

_PACE = 0.3  # seconds between two questions to the arbiter while somebody follows
_ARBITER = "arbiter"
_INFO = logging.INFO
_TRACEBACK = "Traceback (most recent call last):"
_HANDLED = ("Handling signal: ", "Command: ")  # of the arbiter: what follows says it better


@dataclass(frozen=True)
class EventRow:
    """One thing that happened; `by` is ``arbiter`` or an operator's name."""

    time: str
    by: str
    what: str


class _ArbiterLog:
    """The arbiter's records, each once. Without an arbiter there are none."""

    def __init__(self, context: ConsoleContext, level: int, logger: str | None = None) -> None:
        self._context = context
        self._asked = {"level": level, "logger": logger or ""}
        self._arbiter = 0
        self._after = 0

    async def fresh(self) -> list[dict[str, Any]]:
        """What came since the last call. An arbiter that took over begins anew."""
        try:
            rows = await self._context.arbiter(
                "records", 2.0, after=self._after, pid=self._arbiter, **self._asked)
        except (CommandFailed, Unreachable):
            return []  # it is being replaced, or stopped
        if rows:
            self._arbiter, self._after = rows[-1]["pid"], rows[-1]["number"]
        return rows


@commands.command(streams=True, collects="console", merges=True)
async def logs(
    context: ConsoleContext, *, follow: Annotated[bool, Short("f"), "go on as they come"] = False,
    lines: Annotated[int, Short("n"), "of the past, per worker; --filter chooses among these"] = 50,
    level: Annotated[Level, "this level and above"] = "notset",
    logger: Annotated[LoggerName | None, "this logger and those below it"] = None,
) -> AsyncIterator[LogRow]:
    """The latest log records of every worker, and of the arbiter"""
    own = _ArbiterLog(context, logging.getLevelNamesMapping()[level.upper()], logger)
    with_arbiter = context.call.worker == "all"
    past = [_log_row(one) for one in await own.fresh()] if with_arbiter else []
    past = past[-lines:] if lines > 0 else []
    if not follow:
        past += [LogRow(**row) for row in await context.ask(
            "logs", lines=lines, level=level, logger=logger)]
        for row in sorted(past, key=lambda one: one.time):
            yield row
        return
    for row in past:
        yield row
    queue: asyncio.Queue[LogRow | BaseException] = asyncio.Queue(1000)
    sources = [_fill(queue, _workers(context))]
    if with_arbiter:
        sources.append(_fill(queue, _arbiter(own)))
    async with _running(*sources):
        while True:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            yield found


async def _workers(context: ConsoleContext) -> AsyncGenerator[LogRow, None]:
    async with contextlib.aclosing(
        context.fleet.follow(context.call, context.identity.role)
    ) as rows:
        async for row in rows:
            yield LogRow(**row)


async def _arbiter(own: _ArbiterLog) -> AsyncGenerator[LogRow, None]:
    while True:
        await asyncio.sleep(_PACE)
        for one in await own.fresh():
            yield _log_row(one)


async def _fill(
    queue: asyncio.Queue[LogRow | BaseException], rows: AsyncGenerator[LogRow, None]
) -> None:
    try:
        async with contextlib.aclosing(rows):
            async for row in rows:
                await queue.put(row)
    except Exception as error:
        await queue.put(error)


@contextlib.asynccontextmanager
async def _running(*coroutines: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _log_row(one: dict[str, Any]) -> LogRow:
    return LogRow(_ARBITER, stamp(one["time"]), logging.getLevelName(one["level"]).lower(),
                  one["logger"], one["message"])


@commands.command(streams=True, collects="console")
async def events(
    context: ConsoleContext, *, follow: Annotated[bool, Short("f"), "go on as they come"] = False,
    lines: Annotated[int, Short("n"), "of the past, that --filter keeps"] = 50,
) -> AsyncIterator[EventRow]:
    """What happened: starts, reloads, deaths, and what operators did, as a timeline"""
    own = _ArbiterLog(context, _INFO)
    told = _Deeds(context)
    past = to_rows(_in_order(await own.fresh(), told.fresh()))
    for one in latest(context.call, past, lines):
        yield EventRow(**one)
    while follow:
        await asyncio.sleep(_PACE)
        for row in _in_order(await own.fresh(), told.fresh()):
            yield row


def _in_order(records: list[dict[str, Any]], deeds: list[EventRow]) -> list[EventRow]:
    rows = [*deeds, *(row for one in records if (row := _event(one)) is not None)]
    return sorted(rows, key=lambda one: one.time)


def _event(one: dict[str, Any]) -> EventRow | None:
    """The event in a record of the arbiter; a traceback is the log's to show, but for its end."""
    text, _, more = str(one["message"]).partition("\n")
    if text.startswith((*_HANDLED, _TRACEBACK)):
        return None
    ends = [line for line in more.split("\n") if line and not line.startswith(" ")]
    if more.startswith(_TRACEBACK):
        text = ": ".join([text, *(one for one in ends[-1:] if one not in text)])
    elif text.endswith(":") and "\n" not in more:
        text = f"{text} {more}"  # why there is no stack to show
    return EventRow(stamp(one["time"]), _ARBITER, text)


class _Deeds:
    """What operators did, each once: commands of a role above observer's."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._last = 0.0

    def fresh(self) -> list[EventRow]:
        """What came since the last call."""
        provider = self._context.fleet.providers.get("deeds")
        recent: list[AuditRecord] = provider(self._context) if provider is not None else []
        rows = [self._row(one) for one in recent if one.time > self._last]
        self._last = max([self._last, *(one.time for one in recent)])
        return [row for row in rows if row is not None]

    def _row(self, one: AuditRecord) -> EventRow | None:
        word = one.command.partition(" ")[0]
        command = self._context.fleet.catalogue.get(word)
        if one.event != "command" or command is None or command.role == Role.OBSERVER:
            return None
        what = one.command if one.outcome == "ok" else f"{one.command}: {one.outcome}"
        return EventRow(stamp(one.time), one.user, what)
