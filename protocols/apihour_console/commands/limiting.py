"""What a server takes, by the shell: suspend, resume, limit.

Rules:

- The arbiter writes it down; then every worker is told, so that it holds when the command returns.
  One that does not answer is named, and heeds it with its next heartbeat.
- It holds for workers that start later, over reloads and upgrades, until it is taken back. So a
  server that is gone by a reload may be named still, where something is said of it.
"""

from __future__ import annotations

from typing import Annotated, Any

from apihour.limits.bind_options import NAMES, BindOptions, parse_options
from apihour.limits.live import read_live
from apihour.ops.annotations import ServerName
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.servers import ServerRow
from apihour.ops.model import CommandFailed
from apihour_console.fleet.context import ConsoleContext

__all__ = ["commands"]

commands = Catalogue()


@commands.command(role="admin", acts="daemon", collects="console", deadline=5.0)
async def suspend(context: ConsoleContext, name: ServerName) -> list[ServerRow]:
    """Accept no connection for a server until resume; those that are open live on.

    New ones wait in the backlog of the kernel, as far as that goes. It holds in all workers, those
    that start later too, and across reloads and upgrades.

    Args:
        name: the server, as servers shows it
    """
    await _may_steer(context, name)
    return await _steer(context, name)


@commands.command(role="admin", acts="daemon", collects="console", deadline=5.0)
async def resume(context: ConsoleContext, name: ServerName) -> list[ServerRow]:
    """Accept connections again for a server that was suspended; those that wait come in.

    Args:
        name: the server, as servers shows it
    """
    await _may_steer(context, name)
    return await _steer(context, name)


@commands.command(role="admin", acts="daemon", collects="console", deadline=5.0)
async def limit(
    context: ConsoleContext, name: ServerName, *settings: str,
    reset: Annotated[bool, "take these back, or all: what bind, files and class say holds"] = False,
) -> list[ServerRow]:
    """Change what a server asks of its connections: limit http per_address=20 idle=1m.

    It holds in all workers, those that start later too, and across reloads and upgrades, until
    limit NAME --reset. Connections that are open are not closed for being too many, but for being
    silent or slow. Options: limit per_address rate over idle min_rate keepalive nodelay.

    Args:
        name: the server, as servers shows it
        settings: OPTION=VALUE, as in a bind; with --reset OPTION
    """
    if reset:
        wrong = next((word for word in settings if word not in NAMES), None)
        if wrong is not None:
            raise CommandFailed(f"limit: --reset {wrong!r:.60}: expected one of "
                                f"{', '.join(NAMES)}", "usage")
        await _may_steer(context, name, may_be_gone=True)
        return await _steer(context, name, reset=list(settings))
    given = dict(_pair(word) for word in settings)
    if not given:
        raise CommandFailed("limit: expected OPTION=VALUE, or --reset; servers shows what holds",
                            "usage")
    try:
        options = parse_options(given)
    except ValueError as error:
        raise CommandFailed(f"limit {name}: expected {error}", "usage") from None
    rows = await _may_steer(context, name)
    _see_possible(options, rows)
    return await _steer(context, name, options=given)


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise CommandFailed(f"limit: {word!r:.60}: expected OPTION=VALUE", "usage")
    return key, value


async def _may_steer(
    context: ConsoleContext, name: str, may_be_gone: bool = False
) -> list[dict[str, Any]]:
    """The rows of that server, which takes connections here. Raises CommandFailed."""
    rows = await context.ask("servers")
    found = [row for row in rows if row["name"] == name]
    try:
        known = read_live(context.fleet.runtime.limits)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{context.call.command.name}: {error}") from error
    if not found and not (may_be_gone and name in known):
        names = ", ".join(dict.fromkeys(row["name"] for row in rows)) or "none"
        raise CommandFailed(f"{context.call.command.name}: server {name!r:.60}: expected one of "
                            f"{names}", "usage")
    if found and not any(row["state"] for row in found):
        raise CommandFailed(
            f"{context.call.command.name}: server {name!r} ({found[0]['protocol']}) takes no "
            "connections from its worker: it is the shell, takes datagrams or accepts by itself",
            "usage")
    return found


def _see_possible(options: BindOptions, rows: list[dict[str, Any]]) -> None:
    places = " ".join(row["address"] for row in rows).split()
    if places and all(place.startswith("unix:") for place in places):
        why = options.misplaced("unix", True)
        if why:
            raise CommandFailed(f"limit: {why}; expected another for {places[0]}", "usage")


async def _steer(context: ConsoleContext, name: str, **order: Any) -> list[ServerRow]:
    """Have it written down, tell every worker, and say what holds there now."""
    await context.arbiter(context.call.command.name, 5.0, server=name,
                          by=context.identity.name, **order)
    rows = await context.ask("heed-orders", 2.0, context.fleet.choose(), server=name)
    return rows  # type: ignore[return-value]
