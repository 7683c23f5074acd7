"""The commands about workers, their servers and what they are at."""

from __future__ import annotations

import asyncio
import linecache
from dataclasses import dataclass
from typing import Annotated, Any

from apihour.ops.annotations import Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.tasks import StackRow, of_worker, stack_rows
from apihour.ops.model import CommandFailed
from apihour.ops.rows import to_rows
from apihour_console.calls.call import Missing
from apihour_console.fleet.census import Seen, WorkerRow
from apihour_console.fleet.collected import SILENT
from apihour_console.fleet.context import ConsoleContext
from apihour_console.fleet.dump import dump

__all__ = ["commands"]

commands = Catalogue()


@dataclass(frozen=True)
class ServerTotal:
    """One server over all workers; `state` and `options` where they differ: all there are."""

    name: str
    protocol: str
    address: str
    connections: int
    accepted: int
    refused: int
    workers: int
    state: str
    options: str


@dataclass(frozen=True)
class FrameRow(StackRow):
    """One frame of a stack, with its line of source; frame 0 is the innermost."""

    text: str

_SHARE = 0.9  # seconds of a stack's deadline for the agent; what is left is the signal's


@commands.command(collects="console")
async def workers(context: ConsoleContext) -> list[WorkerRow]:
    """Workers and how they do, whatever state they are in

    Connections and accepted are of this moment; a worker notes its requests, errors and lag
    four times a second, so those may be a quarter of a second old.
    """
    seen = context.workers()
    stuck = [one for one in seen if one.is_stuck and not one.is_stopped]
    where: dict[str, str] = {}
    if stuck:
        asked = (context.identity.role, stuck, 0.7)
        found = await context.fleet.collect("pulse", {}, *asked)
        where = {row["worker"]: row["where"] for row in found.rows}
        for one in found.missing:
            where[one.worker] = "code that does not let Python run"
        context.hints += [
            f"worker {one.row.worker} is stuck: stack {one.row.worker} shows where, "
            f"restart {one.row.worker} replaces it" for one in stuck
        ]
    return [WorkerRow.of(one, where.get(one.row.worker, "")) for one in seen]


@commands.command(collects="console", merges=True)
async def servers(context: ConsoleContext) -> list[ServerTotal]:
    """Servers: where they listen, how many connections they have and had"""
    merged: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in await context.ask("servers"):
        merged.setdefault((row["name"], row["protocol"], row["address"]), []).append(row)
    return [
        ServerTotal(*key, _sum(rows, "connections"), _sum(rows, "accepted"), _sum(rows, "refused"),
                    len(rows), _all(rows, "state"), _all(rows, "options"))
        for key, rows in merged.items()
    ]


def _sum(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def _all(rows: list[dict[str, Any]], name: str) -> str:
    return " / ".join(sorted({row[name] for row in rows if row[name]}))


@commands.command(collects="console", merges=True)
async def stack(
    context: ConsoleContext, worker: Worker | None = None,
    *, threads: Annotated[bool, "the other threads too"] = False,
) -> list[FrameRow]:
    """Where each worker is right now, whatever it is stuck in.

    The agent in the worker says so; where C code keeps Python from running, a signal makes
    the worker write its stack. A stopped process has none to give.

    Args:
        worker: one worker only
    """
    found = await asyncio.gather(
        *(_stack_of(context, one, threads) for one in context.workers())
    )
    rows = [row for rows in found for row in rows]
    texts = await asyncio.to_thread(_source_lines, rows)
    return [FrameRow(**row, text=text) for row, text in zip(rows, texts, strict=True)]


async def _stack_of(
    context: ConsoleContext, worker: Seen, threads: bool
) -> list[dict[str, Any]]:
    name = worker.row.worker
    if worker.is_stopped:
        context.missing.append(
            Missing(name, "stopped by a signal: a stopped process has no stack to give"))
        return []
    arguments, role = {"threads": threads}, context.identity.role
    try:
        return await context.fleet.ask(worker, "stack", arguments, role, _SHARE)
    except CommandFailed as error:
        if error.kind not in SILENT:
            raise
    async with context.fleet.dumping[worker.row.pid]:
        found = await dump(context.fleet.runtime, worker.row.pid, _SHARE)
    if not found:
        context.missing.append(Missing(name, "gave no stack, neither its agent nor by a signal"))
    state = "blocked, Python cannot run"
    return to_rows(stack_rows(name, "loop", state, worker.row.silent, of_worker(found)))


def _source_lines(rows: list[dict[str, Any]]) -> list[str]:
    linecache.checkcache()
    return [linecache.getline(row["file"], row["line"]).strip()[:200] for row in rows]
