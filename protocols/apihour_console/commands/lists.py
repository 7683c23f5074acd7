"""Lists of what goes on, counted where asked, and ends for what they show.

Rules: ``--filter`` chooses first, from the rows of the list; what is chosen is counted in
groups, or, in the order of ``--sort`` up to ``--limit``, kicked or cancelled. What was
chosen and is gone by then is left out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from apihour.ops.annotations import ConnectionId, TaskId
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.servers import ClosedRow
from apihour.ops.commands.tasks import TaskRow
from apihour.ops.connection_row import ConnectionRow
from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Missing, chosen, selected
from apihour_console.fleet.context import ConsoleContext
from apihour_console.fleet.groups import ConnectionGroup, TaskGroup, group_connections, group_tasks

__all__ = ["commands"]

commands = Catalogue()
CollectedRows = list[dict[str, Any]]


@commands.command(collects="console", grouped=ConnectionGroup, merges=True)
async def conns(
    context: ConsoleContext,
    *, by: Annotated[Literal["peer", "route", "server", "state", "worker"] | None,
                     "count them, peers without their ports"] = None,
) -> list[ConnectionRow]:
    """Open connections of every protocol, what they do and since when.

    The state is the protocol's word. Of HTTP: open (nothing came yet), head or body (the
    client owes the rest), request (an answer is being made), write (the client does not read
    it), idle, websocket. request_age is how long the request under way has taken so far.
    """
    rows = await context.ask("conns")
    return group_connections(chosen(context.call, rows), by) if by else rows  # type: ignore[return-value]


@commands.command(collects="console", grouped=TaskGroup, merges=True)
async def tasks(
    context: ConsoleContext, *, tree: Annotated[bool, "under the task that awaits them"] = False,
    all_: Annotated[bool, "those that apihour itself lives by too"] = False,
    by: Annotated[Literal["where", "coroutine", "name", "state", "worker"] | None,
                  "count them"] = None,
) -> list[TaskRow]:
    """Tasks of the application, how old they are, and the line each waits at.

    asyncio keeps no time with a task: an age counts from the first look, and there is one
    every five seconds while tasks are fewer than a thousand.
    """
    rows = await context.ask("tasks", tree=tree, all_=all_)
    return group_tasks(chosen(context.call, rows), by) if by else rows  # type: ignore[return-value]


@commands.command(role="operator", collects="console", selects="conns", deadline=5.0, merges=True)
async def kick(context: ConsoleContext, connection: ConnectionId | None = None) -> list[ClosedRow]:
    """Close a connection at once, or all that --filter chooses: kick --filter peer=10.0.0.7.

    --sort and --limit choose too: kick --filter state=idle --sort -age --limit 10.

    Args:
        connection: its id, as conns shows it
    """
    if connection is not None:
        worker = connection.rpartition("-")[0]
        return await _one(context, "kick", worker, connection)  # type: ignore[return-value]
    rows = await _selected(context, "conns", "a connection's id")
    return await _each(context, "kick", rows)  # type: ignore[return-value]


@commands.command(role="operator", collects="console", selects="tasks", deadline=5.0, merges=True)
async def cancel(context: ConsoleContext, task: TaskId | None = None) -> list[TaskRow]:
    """Cancel a task of the application, or all that --filter chooses.

    Those the worker itself lives by are refused.

    Args:
        task: its id, as tasks shows it
    """
    if task is not None:
        worker, colon, _ = task.rpartition(":")
        if not colon:
            raise CommandFailed(
                f"cancel: task {task!r:.80}: expected an id such as 1.2:17", "usage")
        return await _one(context, "cancel", worker, task)  # type: ignore[return-value]
    rows = await _selected(context, "tasks", "a task's id")
    return await _each(context, "cancel", rows)  # type: ignore[return-value]


async def _selected(context: ConsoleContext, command: str, expected: str) -> CollectedRows:
    """The rows of `command` that the call chooses. Raises CommandFailed where it has no filter."""
    if not context.call.filters:
        raise CommandFailed(f"{context.call.command.name}: expected {expected}, or --filter to "
                            f"choose among the rows of {command}", "usage")
    there = await context.ask(command)
    rows = selected(context.call, there)
    if not rows:
        context.hints.append(f"{context.call.command.name}: the filter chooses none of "
                             f"{len(there)} rows of {command}")
    return rows


async def _one(context: ConsoleContext, command: str, worker: str, label: str) -> CollectedRows:
    given = ["filter"] * bool(context.call.filters) + ["limit"] * (context.call.limit is not None)
    if given:
        raise CommandFailed(f"{command}: {label!r} and --{given[0]}; expected one of them", "usage")
    found = await context.fleet.collect(
        command, _arguments(command, [label]), context.identity.role, context.fleet.choose(worker),
        2.0)
    if found.failures and not found.rows:  # two have its name while one replaces the other
        raise found.failures[0][1]
    context.missing += found.missing
    return found.rows


async def _each(context: ConsoleContext, command: str, rows: CollectedRows) -> CollectedRows:
    """Carry out `command` on the rows, in the worker of each, all of a worker at once."""
    by_worker: dict[str, list[str]] = {}
    for row in rows:
        by_worker.setdefault(row["worker"], []).append(row["id"])
    done: CollectedRows = []
    for one in context.workers():
        labels = by_worker.get(one.row.worker)
        if labels:
            found = await context.fleet.collect(
                command, _arguments(command, labels), context.identity.role, [one], 2.0)
            done += found.rows
            context.missing += found.missing
            context.missing += [Missing(name, str(error)) for name, error in found.failures
                                if error.kind != "gone"]
    return done


def _arguments(command: str, labels: list[str]) -> dict[str, Any]:
    return {"connections" if command == "kick" else "tasks": labels}
