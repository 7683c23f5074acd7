"""The commands that the console carries out: about all workers at once, or about itself.

A command here goes before one of the same name in the agents, whose rows it merges.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
import platform
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Annotated, Any, Literal

from apihour.ops.commands.profile import check_bounds
from apihour.ops.commands.tasks import of_worker, stack_rows
from apihour.ops.model import (
    Bytes,
    Catalogue,
    Column,
    Command,
    CommandFailed,
    CommandName,
    Duration,
    Percent,
    Role,
    Seconds,
    Short,
    Worker,
    to_rows,
)
from apihour.version import __version__
from apihour_console.commands import banning, certs, ending, lists, routes, timeline
from apihour_console.fleet.census import Seen, WorkerRow, state_of
from apihour_console.fleet.dump import dump
from apihour_console.fleet.metrics import MetricRow, readiness
from apihour_console.fleet.trouble import HealthRow, disks, troubles
from apihour_console.shell.audit import AuditRecord
from apihour_console.shell.calls import DONE, FAILED, PARTIAL, Missing, Result, parse_call
from apihour_console.shell.context import ConsoleContext
from apihour_console.shell.providers import SessionRow
from apihour_console.text.flame import HotSpot, flame_graph, hot_spots

__all__ = ["commands"]

commands = Catalogue()

_SHARE = 0.9  # seconds of a stack's deadline for the agent; what is left is the signal's


@dataclass(frozen=True)
class CommandRow:
    """One command of the catalogue."""

    command: str
    summary: str
    role: str
    usage: str


@dataclass(frozen=True)
class VersionRow:
    """One component and its version."""

    component: str
    version: str


@dataclass(frozen=True)
class ServerTotal:
    """One server over all workers."""

    name: str
    protocol: str
    address: str
    connections: int
    accepted: int
    refused: int
    workers: int


@dataclass(frozen=True)
class FrameRow:
    """One frame of a stack, with its line of source; frame 0 is the innermost."""

    worker: str
    thread: str
    state: str
    blocked: Seconds
    frame: int
    file: str
    line: int
    function: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What the arbiter did; it says more in columns of its own."""

    outcome: str


@commands.command(name="help", collects="console")
def help_(context: ConsoleContext, command: CommandName | None = None) -> Any:
    """Commands there are, or what one does.

    Args:
        command: one of them
    """
    catalogue = context.fleet.catalogue
    if command is not None:
        found = catalogue.get(command)
        if found is None:
            parse_call([command], catalogue)  # raises, with a suggestion
            raise CommandFailed(f"{command!r}: no such command", "unknown")
        return _one_help(context, found)
    rows = [_command_row(one) for one in catalogue]
    if context.call.json or context.call.csv:
        return rows
    width = max(len(row.command) for row in rows)
    own = [one for one in catalogue if not one.application]
    lines = [f"  {one.name:<{width}}  {one.summary}" for one in own]
    theirs = [f"  {one.name:<{width}}  {one.summary}" for one in catalogue if one.application]
    if theirs:
        lines += ["", "of the application:", *theirs]
    lines += ["", "help COMMAND says more; every command takes --json --csv --worker N|all "
              "--sort COL --limit N --filter COND"]
    return Result(text="\n".join(lines))


def _one_help(context: ConsoleContext, command: Command) -> Any:
    if context.call.json or context.call.csv:
        return [_command_row(command)]
    return Result(text=command.help_text)


def _command_row(one: Command) -> CommandRow:
    return CommandRow(one.name, one.summary, str(one.role), one.usage)


@commands.command(collects="console")
def version(context: ConsoleContext) -> list[VersionRow]:
    """Versions of apihour, Python and the libraries it stands on"""
    rows = [VersionRow("apihour", __version__), VersionRow("python", platform.python_version())]
    for name in ("gunicorn", "uvloop", "aiohttp", "asyncssh"):
        try:
            rows.append(VersionRow(name, installed(name)))
        except PackageNotFoundError:
            rows.append(VersionRow(name, "not installed"))
    return rows


@commands.command(name="exit", collects="console")
def exit_(context: ConsoleContext) -> Any:
    """Leave the shell"""
    return Result(text="")


@commands.command(collects="console")
def clear(context: ConsoleContext) -> Any:
    """Clear the screen"""
    return Result(text="")


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


@commands.command(collects="console")
async def servers(context: ConsoleContext) -> list[ServerTotal]:
    """Servers: where they listen, how many connections they have and had"""
    merged: dict[tuple[str, str, str], Counter[str]] = {}
    for row in await context.ask("servers"):
        one = merged.setdefault((row["name"], row["protocol"], row["address"]), Counter())
        one.update({key: row[key] for key in ("connections", "accepted", "refused")}, workers=1)
    return [
        ServerTotal(*key, one["connections"], one["accepted"], one["refused"], one["workers"])
        for key, one in merged.items()
    ]


@commands.command(collects="console")
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
        if error.kind != "timeout":
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


@dataclass(frozen=True)
class TopRow:
    """One worker or one server; what ends in ``_s`` is per second."""

    kind: str
    name: str
    state: str
    requests_s: float
    connections: int
    accepted_s: float
    errors_s: float
    cpu: Percent | None
    rss: Bytes | None
    lag: Seconds | None


@commands.command(collects="console")
async def top(context: ConsoleContext) -> list[TopRow]:
    """What every worker and every server is doing, per second"""
    rates = context.fleet.rates
    if time.monotonic() - rates.at > 5.0:
        await _look(context)
        context.missing.clear()
        await asyncio.sleep(0.5)
    seen, server_rows = await _look(context)
    rows = [
        TopRow("worker", one.row.worker, state_of(one), rates.rate("requests", one.row.worker),
               one.row.connections, rates.rate("accepted", one.row.worker),
               rates.rate("errors", one.row.worker), one.cpu, one.process.rss, one.lag)
        for one in seen
    ]
    open_now: Counter[str] = Counter()
    protocols: dict[str, str] = {}
    for row in server_rows:
        open_now[row["name"]] += row["connections"]
        protocols[row["name"]] = row["protocol"]
    rows += [
        TopRow("server", name, protocols[name], rates.rate("server", name, "requests"), count,
               rates.rate("server", name, "accepted"), rates.rate("server", name, "errors"),
               None, None, None)
        for name, count in open_now.items()
    ]
    return rows


async def _look(context: ConsoleContext) -> tuple[list[Seen], list[dict[str, Any]]]:
    seen = context.workers()
    server_rows, statistics = await asyncio.gather(
        context.ask("servers", 0.5, seen), context.ask("statistics", 0.5, seen)
    )
    context.missing[:] = {one.worker: one for one in context.missing}.values()
    counters: dict[tuple[str, ...], float] = {}
    for one in seen:
        name = one.row.worker
        counters["requests", name] = one.row.requests
        counters["accepted", name] = one.row.accepted
        counters["errors", name] = one.row.errors
    for row in server_rows:
        counters["server", row["name"], "accepted", row["worker"]] = row["accepted"]
    for row in statistics:
        value = row["value"]
        if row["name"] in ("requests", "errors") and isinstance(value, int | float):
            counters["server", row["server"], row["name"], row["worker"]] = value
        elif row["name"] == "responses" and isinstance(value, dict):
            counters["server", row["server"], "errors", row["worker"]] = value.get("5xx", 0)
    context.fleet.rates.look(time.monotonic(), counters)
    return seen, server_rows


@commands.command(collects="console")
async def health(context: ConsoleContext) -> Any:
    """Whether the daemon is ready, and what is wrong where; exit status 1 when something is

    Wrong is: no worker accepts, or fewer run than wanted; a worker is stuck or stopped; of the
    last minute's requests more than one in ten, and five, got a 5xx; a log line of the last
    minute was lost; a disk that logs, keys or the daemon's own files are on is full; a certificate
    has fewer than 14 days left.
    """
    fleet = context.fleet
    ready, reason = readiness(fleet.census)
    daemons = fleet.census.daemons()
    fleet.recent.note(time.monotonic(), fleet.census.workers(), daemons)
    # Who does not answer has a row of its own below.
    served = await fleet.collect("certs", {}, context.identity.role, [
        one for one in context.workers() if not one.is_stuck and not one.is_stopped], 0.7)
    rows = [HealthRow("daemon", "ready" if ready else "not ready", reason), *troubles(
        context.workers(), daemons, fleet.recent.lately(), disks(fleet.disks)),
        *certs.expiring(certs.merged(served.rows))]
    result = Result.of(context.call, to_rows(rows))
    wrong = any(row.status.startswith("not") for row in rows)
    return Result(result.columns, result.rows, status=FAILED if wrong else DONE)


@commands.command(collects="console")
async def metrics(context: ConsoleContext) -> list[MetricRow]:
    """Every figure of the daemon, merged over workers, as /metrics serves them"""
    families, missing = await context.fleet.meter.collect()
    context.missing += missing
    return [row for family in families for row in family.rows()]


@commands.command(role="operator", collects="console", extends="seconds")
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


@commands.command(role="admin", collects="console", deadline=3600.0)
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


# what the arbiter does


@commands.command(role="operator", collects="arbiter", deadline=600.0)
async def reload(
    context: ConsoleContext,
    *, canary: Annotated[int | None, "first watch that many workers, as --canary does"] = None,
) -> list[dict[str, Any]]:
    """Start workers with the new code, retire the old ones once the new are ready.

    Waits until that is done; when the new code does not come up, the old workers stay, the
    reason is shown and the exit status is 1.
    """
    wish = {} if canary is None else {"canary": canary}
    return await context.arbiter("reload", 600.0, **wish)


@commands.command(role="operator", collects="arbiter", deadline=600.0)
async def rollback(context: ConsoleContext) -> list[dict[str, Any]]:
    """Reload with the release that served before this one, by its directory.

    For daemons started in a link to the current release, or with --chdir naming one. A reload
    under way is ended instead. Until the link is set back too, the next reload or upgrade takes
    what it points to again.
    """
    context.hints.append("set the link to the release back too: the next reload or upgrade enters "
                         "what it points to")
    return await context.arbiter("rollback", 600.0)


@commands.command(role="admin", collects="arbiter", deadline=600.0)
async def upgrade(context: ConsoleContext) -> list[dict[str, Any]]:
    """Start a new arbiter on the same sockets, retire this one once it serves"""
    return await context.arbiter("upgrade", 600.0)


@commands.command(role="operator", collects="arbiter", deadline=5.0)
async def scale(context: ConsoleContext, count: int) -> list[dict[str, Any]]:
    """Have that many workers.

    Args:
        count: 1 or more
    """
    return await context.arbiter("scale", 5.0, workers=count)


# what the shell itself knows


@commands.command(role="operator", collects="console")
async def sessions(
    context: ConsoleContext,
    *, kick: Annotated[int | None, "end the session of that id; needs role admin"] = None,
) -> list[SessionRow]:
    """Who is logged in to the shell"""
    if kick is not None and context.identity.role < Role.ADMIN:
        raise CommandFailed("sessions: --kick needs role admin", "role")
    return await _provided(context)  # type: ignore[return-value]  # rows of it


@dataclass(frozen=True)
class AuditRow(AuditRecord):
    """One entry of the audit log, its time in words."""

    time: str  # type: ignore[assignment]


@commands.command(role="admin", collects="console")
async def audit(
    context: ConsoleContext, *, follow: Annotated[bool, Short("f"), "go on as they come"] = False,
    lines: Annotated[int, Short("n"), "of the past"] = 50,
) -> AsyncIterator[AuditRow]:
    """What was done in the shell, by whom and from where"""
    value = _provider(context)(context)
    if inspect.isasyncgen(value):
        async for one in value:
            for row in to_rows(one):
                yield row  # type: ignore[misc]  # rows of it
        return
    for row in to_rows(await value if inspect.isawaitable(value) else value):
        yield row  # type: ignore[misc]


def _provider(context: ConsoleContext) -> Any:
    name = context.call.command.name
    found = context.fleet.providers.get(name)
    if found is None:
        raise CommandFailed(f"{name}: not kept by this console", "unknown")
    return found


async def _provided(context: ConsoleContext) -> list[dict[str, Any]]:
    value = _provider(context)(context)
    return to_rows(await value if inspect.isawaitable(value) else value)


@commands.command(collects="console")
async def watch(
    context: ConsoleContext, interval: Duration = 2.0, *command: CommandName
) -> AsyncIterator[dict[str, Any]]:
    """Run a command again and again: watch 2 conns.

    Args:
        interval: seconds between two runs
        command: what to run, with its options
    """
    call = parse_call(list(command) or ["workers"], context.fleet.catalogue)
    context.identity.check(call.command)
    if call.command.role > Role.OBSERVER or call.follows:
        raise CommandFailed(f"watch {call.command.name}: expected a command that only looks",
                            "usage")
    while True:
        result = await context.fleet.execute(call, context.identity)
        if result.error:
            raise CommandFailed(result.error)
        for row in result.rows:
            yield row
        await asyncio.sleep(max(0.2, interval))


for _module in (lists, banning, certs, ending, routes, timeline):
    commands.update(_module.commands)
