"""The commands about who is and was in the shell: sessions, audit."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from apihour.ops.annotations import Acts, Short
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed, Role
from apihour.ops.rows import to_rows
from apihour_console.fleet.context import ConsoleContext
from apihour_console.shell.audit import AuditRecord
from apihour_console.shell.providers import SessionRow

__all__ = ["commands"]

commands = Catalogue()


@commands.command(role="operator", collects="console")
async def sessions(
    context: ConsoleContext,
    *, kick: Annotated[int | None, Acts(), "end the session of that id; needs role admin"] = None,
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
    lines: Annotated[int, Short("n"), "of the past, that --filter keeps"] = 50,
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
