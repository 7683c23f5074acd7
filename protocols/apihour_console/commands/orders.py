"""The commands that the arbiter carries out: reload, rollback, upgrade, scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed
from apihour.ops.rows import to_rows
from apihour_console.calls.call import FAILED, Result
from apihour_console.fleet.context import ConsoleContext

__all__ = ["commands"]

commands = Catalogue()


@commands.command(role="operator", acts="daemon", collects="arbiter", deadline=600.0)
async def reload(
    context: ConsoleContext,
    *, canary: Annotated[int | None, "first watch that many workers, as --canary does"] = None,
    fleet: Annotated[bool, "all hosts, one after another, until one fails"] = False,
    max_unavailable: Annotated[int | None, "with --fleet: so many hosts at once (1)"] = None,
    rollback: Annotated[bool, "with --fleet: roll those that are done back when one fails"] = False,
) -> list[dict[str, Any]] | Result:
    """Start workers with the new code, retire the old ones once the new are ready.

    Waits until that is done; when the new code does not come up, the old workers stay, the
    reason is shown and the exit status is 1.
    """
    wish = {} if canary is None else {"canary": canary}
    if fleet:
        at_once = 1 if max_unavailable is None else max_unavailable
        options = [f"--{name}={value}" for name, value in wish.items()]
        return await _reload_fleet(context, at_once, rollback, options)
    if rollback or max_unavailable is not None:
        option = "--rollback" if rollback else "--max-unavailable"
        raise CommandFailed(f"reload: option {option}: it is for a reload of all hosts; expected "
                            "--fleet beside it" + ", or the command rollback" * rollback, "usage")
    return await context.arbiter("reload", 600.0, **wish)


async def _reload_fleet(
    context: ConsoleContext, at_once: int, give_back: bool, options: list[str]) -> Result:
    hosts = context.fleet.hosts_there()
    if at_once < 1:
        raise CommandFailed(f"reload: option --max-unavailable: {at_once}; expected 1 or more",
                            "usage")
    deeds, missing = await hosts.reload(context.identity, at_once, give_back, options)
    result = Result.of(context.call, to_rows(deeds), missing)
    failed = any(one.outcome not in ("done", "not reached") for one in deeds)
    return replace(result, status=FAILED) if failed else result


@commands.command(role="operator", acts="daemon", collects="arbiter", deadline=600.0)
async def rollback(context: ConsoleContext) -> list[dict[str, Any]]:
    """Reload with the release that served before this one, by its directory.

    For daemons started in a link to the current release, or with --chdir naming one. A reload
    under way is ended instead. Until the link is set back too, the next reload or upgrade takes
    what it points to again.
    """
    context.hints.append("set the link to the release back too: the next reload or upgrade enters "
                         "what it points to")
    return await context.arbiter("rollback", 600.0)


@commands.command(role="admin", acts="daemon", collects="arbiter", deadline=600.0)
async def upgrade(context: ConsoleContext) -> list[dict[str, Any]]:
    """Start a new arbiter on the same sockets, retire this one once it serves"""
    return await context.arbiter("upgrade", 600.0)


@commands.command(role="operator", acts="daemon", collects="arbiter", deadline=5.0)
async def scale(context: ConsoleContext, count: int) -> list[dict[str, Any]]:
    """Have that many workers.

    Args:
        count: 1 or more
    """
    return await context.arbiter("scale", 5.0, workers=count)
