"""The commands about the hosts of a fleet."""

from __future__ import annotations

from typing import Literal

from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed, Role
from apihour_console.fleet.context import ConsoleContext
from apihour_console.fleet.host_rows import HostRow

__all__ = ["commands"]

commands = Catalogue()


@commands.command(collects="console", deadline=4.0)
async def hosts(
    context: ConsoleContext, action: Literal["forget"] | None = None, name: str = "",
) -> list[HostRow]:
    """Hosts of the fleet, and how they do; --host NAME or all asks them by any command.

    One that does not answer is named, and the exit status is 75; `hosts forget NAME` expects it
    no more, until it says hello again.

    Args:
        action: forget a host that is gone for good; it needs role operator
        name: which
    """
    fleet = context.fleet.hosts_there()
    if action is not None:
        if context.identity.role < Role.OPERATOR:
            raise CommandFailed(f"hosts: {action} needs role operator", "role")
        if not fleet.forget(name):
            raise CommandFailed(f"hosts: host {name!r:.80}: there is none of that name", "usage")
    rows, missing = await fleet.rows()
    context.missing += missing
    context.hints += fleet.doubts()
    return rows
