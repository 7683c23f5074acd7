"""The commands about the shell and its commands themselves."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any

from apihour.ops.annotations import CommandName, Duration
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Command, CommandFailed
from apihour.version import __version__
from apihour_console.calls.call import Result
from apihour_console.calls.parsing import parse_call
from apihour_console.fleet.context import ConsoleContext

__all__ = ["commands"]

commands = Catalogue()


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
    lines += ["", "help COMMAND says more, also which it takes of --json --csv --worker N|all "
              "--host NAME|all --sort COL --limit N --filter COND"]
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
async def watch(
    context: ConsoleContext, interval: Duration = 2.0, *command: CommandName
) -> AsyncIterator[dict[str, Any]]:
    """Run a command again and again: watch 2 conns.

    Its own options come first: watch --limit 3 looks three times. All behind the interval belongs
    to the command.

    Args:
        interval: seconds between two runs
        command: what to run, with its options
    """
    call = parse_call(list(command) or ["workers"], context.fleet.catalogue)
    context.identity.check(call.command)
    if not call.only_looks:
        raise CommandFailed(f"watch {call.command.name}: expected a command that only looks at "
                            "something, and ends", "usage")
    while True:
        result = await context.fleet.execute(call, context.identity)
        if result.error:
            raise CommandFailed(result.error)
        for row in result.rows:
            yield row
        await asyncio.sleep(max(0.2, interval))
