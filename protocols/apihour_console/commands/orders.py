"""The commands that the arbiter carries out: reload, rollback, upgrade, scale."""

from __future__ import annotations

from typing import Annotated, Any

from apihour.ops.catalogue import Catalogue
from apihour_console.fleet.context import ConsoleContext

__all__ = ["commands"]

commands = Catalogue()


@commands.command(role="operator", acts="daemon", collects="arbiter", deadline=600.0)
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
