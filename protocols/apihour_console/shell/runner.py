"""Runs one command line and prints what it gave: the same for every face of the shell.

Rules:

- Rows go to ``out``; errors and workers that did not answer go to ``err``, one line each.
- The role is checked here, before anything is asked of a worker (the agents check again).
- Every command is audited, refused and cancelled ones too; cancelling the task that runs
  it cancels it in the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from apihour.errors import ApihourError, UsageError
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Column
from apihour_console.calls.call import FAILED, Call, Identity, Result, chosen
from apihour_console.calls.parsing import parse_call
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.hidden import hide_secrets
from apihour_console.shell.hints import refuse_other_shells
from apihour_console.shell.watching import watch
from apihour_console.text.fit import reflow
from apihour_console.text.present import presented
from apihour_console.text.render import (
    RowPrinter,
    clean,
    csv_text,
    json_line,
    json_text,
    paint,
    table,
)
from apihour_console.text.silence import SilenceBreaker
from apihour_console.text.sink import Sink

__all__ = ["CANCELLED", "FleetLike", "Front", "LeaveShell", "Runner", "split_words"]

CANCELLED = 130  # as shells report a command ended by SIGINT
_REASON = 200  # characters of what went wrong that an entry keeps


class FleetLike(Protocol):
    """What is asked of the fleet (:class:`apihour_console.fleet.fleet.Fleet`)."""

    @property
    def catalogue(self) -> Catalogue: ...
    async def execute(self, call: Call, identity: Identity) -> Result: ...
    def stream(
        self, call: Call, identity: Identity
    ) -> AsyncGenerator[dict[str, Any], None]: ...
    async def values(self, kind: str) -> Sequence[str]: ...


Front = Callable[[Call], Awaitable[int]]
"""A command that a session carries out itself (``top``, ``python``, ``exit``)."""


class LeaveShell(Exception):
    """The operator typed ``exit``."""


class Runner:
    """Runs command lines for one caller."""

    def __init__(
        self, fleet: FleetLike, audit: AuditLog, identity: Identity, sink: Sink,
        fronts: Mapping[str, Front] | None = None,
    ) -> None:
        self.fleet = fleet
        self.audit = audit
        self.identity = identity
        self.sink = sink
        self.fronts = dict(fronts or {})
        self.current = ""
        self._why = ""  # what went wrong in the command under way

    async def run_line(self, line: str) -> int:
        """Run one line of text; returns its exit status."""
        try:
            refuse_other_shells(line)
            words = split_words(line)
        except UsageError as error:
            await self.complain(str(error))
            return error.exit_status
        return await self.run(words) if words else 0

    async def run(self, words: Sequence[str]) -> int:
        """Run one command given as words; returns its exit status."""
        started = time.monotonic()
        command = self.fleet.catalogue.get(words[0]) if words else None
        self.current, hidden = hide_secrets(words, command)
        status, workers, outcome, self._why = FAILED, "", "failed", ""
        try:
            call = parse_call(words, self.fleet.catalogue)
            workers = call.worker
            self.identity.check(call.command)
            status = await self._carry_out(call)
            outcome = "ok" if status == 0 else hidden(self._why)[:_REASON] or "failed"
        except ApihourError as error:
            status, outcome = error.exit_status, hidden(clean(str(error)))[:_REASON]
            await self.complain(str(error), getattr(error, "detail", ""))
        except LeaveShell:
            status, outcome = 0, "ok"
            raise
        except (asyncio.CancelledError, ConnectionError):
            status, outcome = CANCELLED, "cancelled"
            raise
        finally:
            text, self.current = self.current, ""
            self.audit.record_of(
                "command", self.identity, command=text, workers=workers, outcome=outcome,
                status=status, duration=time.monotonic() - started,
            )
        return status

    async def _carry_out(self, call: Call) -> int:
        front = self.fronts.get(call.command.name)
        if front is not None:
            if call.hosts:
                raise UsageError(f"{call.command.name}: option --host: expected none, it is of "
                                 "this session")
            return await front(call)
        if call.command.name == "watch":
            return await watch(self, call)
        if call.follows:
            return await self._stream(call)
        return await self.show(call, await self.fleet.execute(call, self.identity))

    async def show(self, call: Call, result: Result) -> int:
        """Print a result as the call wants it; returns its exit status."""
        self._why = clean(_reason(result))
        await self.sink.out(self.render(call, result))
        for one in result.missing:
            await self.complain(f"{one.what} {one.worker}: {one.reason}")
        for hint in () if call.json or call.csv else result.hints:
            await self.sink.err(clean(hint) + "\n")
        if result.error:
            await self.complain(result.error, result.detail)
        return result.status

    def render(self, call: Call, result: Result) -> str:
        """The rows or the text of a result in the format of the call."""
        if result.text is not None and not call.json and not call.csv:
            text = clean(result.text)
            if call.command.name == "help":
                text = reflow(text, self.sink.width)
            return text if text.endswith("\n") or not text else text + "\n"
        if call.json:
            rows = result.rows if result.text is None else [{"text": result.text}]
            return json_text(rows)
        if call.csv:
            return csv_text(result.columns, result.rows)
        own = presented(call.command.name, result.rows, self.sink.colour)
        if own is not None:
            return own
        keep = (call.sort.removeprefix("-"),)
        return table(result.columns, result.rows, self.sink.width, self.sink.colour, keep)

    async def _stream(self, call: Call) -> int:
        printer: RowPrinter | None = None
        header = True
        left = call.limit
        if left == 0:
            return 0
        stream = self.fleet.stream(call, self.identity)
        async with contextlib.aclosing(stream), SilenceBreaker(self.sink, call) as sink:
            async for row in stream:
                if not chosen(call, [row]):
                    continue
                if call.json:
                    text = json_line(row) + "\n"
                elif call.csv:
                    text = csv_text(_columns_of(call, row), [row], header)
                else:
                    printer = printer or RowPrinter(_columns_of(call, row), self.sink.colour)
                    text = printer.text(row)
                await sink.out(text)
                header = False
                if left is not None:
                    left -= 1
                    if left == 0:
                        break
        return 0

    async def complain(self, line: str, detail: str = "") -> None:
        """Print an error, in one line, and its traceback if there is one."""
        text = clean(line).rstrip("\n")
        if self.sink.colour:
            text = paint(text, "red")
        await self.sink.err(text + "\n" + (clean(detail).rstrip("\n") + "\n" if detail else ""))


def _reason(result: Result) -> str:
    """What went wrong, in one line; empty when all went well."""
    if result.error:
        return result.error.partition("\n")[0]
    return "; ".join(f"{one.what} {one.worker}: {one.reason}" for one in result.missing)


def _columns_of(call: Call, row: dict[str, Any]) -> Sequence[Column]:
    columns = call.command.columns or [Column(name) for name in row if name != "host"]
    return [Column("host"), *columns] if call.hosts else columns


def split_words(line: str) -> list[str]:
    """Shell words of a line. Raises UsageError on an open quote."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line.strip()[:60]!r}: {error}; expected quotes in pairs") from error
