"""The commands that look into running code, and run some: profile, python."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from apihour.ops.annotations import Acts, Duration, Short, Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.process import MemoryRow
from apihour.ops.commands.profile import check_bounds
from apihour.ops.model import Column, CommandFailed
from apihour_console.calls.call import DONE, FAILED, PARTIAL, Missing, Result
from apihour_console.fleet.context import ConsoleContext
from apihour_console.text.flame import HotSpot, flame_graph, hot_spots

__all__ = ["commands"]

commands = Catalogue()

_TRACED = ("allocations are traced from now on: mem --diff shows what grew, mem --stop ends it; a "
           "worker that starts later traces nothing")


@commands.command(role="operator", collects="console", extends="seconds", merges=True)
async def profile(
    context: ConsoleContext, what: Literal["cpu", "wall"] = "cpu", worker: Worker | None = None,
    *, seconds: Annotated[Duration, Short("s"), "how long"] = 10.0,
    interval: Annotated[Duration, "between two looks"] = 0.01,
    flame: Annotated[bool, "a flame graph as SVG"] = False,
) -> list[HotSpot]:
    """Where the workers' loops spend their CPU time.

    Looked at by the CPU time that they use; `wall` looks by the clock, from beside them, and
    finds what a loop waits in as well.

    Args:
        what: CPU time, or time of day
        worker: one worker only
    """
    check_bounds(seconds, interval)
    rows = await context.ask(
        "profile", seconds + 3.0, what=what, seconds=seconds, interval=interval,
    )
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["stack"]] += row["samples"]
    if flame:
        title = f"{seconds:g} s ({what}), workers {context.call.worker}"
        status = PARTIAL if context.missing else DONE
        return Result(  # type: ignore[return-value]
            text=flame_graph(counts, title), missing=context.missing, status=status)
    return hot_spots(counts)


@commands.command(role="operator", collects="console", deadline=30.0, merges=True)
async def mem(
    context: ConsoleContext, worker: Worker | None = None,
    *, start: Annotated[bool, Acts(), "begin to trace; the worker is slower by half"] = False,
    stop: Annotated[bool, Acts(), "end it"] = False,
    top: Annotated[int, "lines that hold the most"] = 20,
    diff: Annotated[bool, "those that grew the most since --start"] = False,
) -> list[MemoryRow]:
    """Lines that hold memory, by tracemalloc: mem --start, later mem --diff, at last mem --stop

    Args:
        worker: one worker only
    """
    given = {"worker": worker, "start": start, "stop": stop, "top": top, "diff": diff}
    found = await context.fleet.collect(
        "mem", given, context.identity.role, context.workers(), 30.0)
    if found.failures and not found.rows and not found.missing:
        raise found.failures[0][1]
    context.missing += found.missing
    context.missing += [Missing(name, str(error)) for name, error in found.failures]
    if start or stop:
        context.hints.append(_TRACED if start else "allocations are traced no more")
    return found.rows  # type: ignore[return-value]  # rows of it


@commands.command(role="admin", acts="workers", collects="console", deadline=3600.0, merges=True)
async def python(
    context: ConsoleContext, worker: Worker, source: str = "",
    *, session: Annotated[str, "names are kept under this name"] = "",
    complete: Annotated[bool, "list what the source may go on with"] = False,
) -> Any:
    """Evaluate Python in the loop of a worker; `container` is there, and so is await.

    Args:
        worker: where
        source: what; without it, in a terminal, line by line
    """
    if not source:
        raise CommandFailed("python: SOURCE is missing; a prompt needs a terminal", "usage")
    arguments = {"worker": worker, "source": source, "session": session, "complete": complete}
    found = await context.fleet.collect(
        "python", arguments, context.identity.role, context.workers(), 3600.0)
    if found.failures:
        raise found.failures[0][1]
    text = "".join(row["output"] for row in found.rows)
    wrong = any(row["failed"] or row["more"] for row in found.rows)
    status = FAILED if wrong else PARTIAL if found.missing else DONE
    columns = tuple(Column(name) for name in (found.rows[0] if found.rows else ()))
    return Result(columns, found.rows, found.missing, status, text=text)
