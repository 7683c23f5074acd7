"""Taking workers out: drain, undrain, restart, and signals.

Rule: whoever ends a worker is told what serves in its place, by name and pid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from apihour.ops.annotations import Duration, Seconds, Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed
from apihour_console.fleet.context import ConsoleContext

__all__ = ["commands"]

commands = Catalogue()

_START = 180.0  # seconds the arbiter has to say what came of it, on top of a drain


@dataclass(frozen=True)
class Restarted:
    """A worker that was replaced: ``drained`` in time or ``killed``, and by which."""

    worker: str
    pid: int
    outcome: str
    seconds: Seconds
    replaced_by: str
    new_pid: int


@commands.command(role="operator", acts="workers", collects="arbiter", deadline=5.0)
async def drain(
    context: ConsoleContext, worker: Worker,
    *, yes: Annotated[bool, "even the last one that accepts"] = False,
) -> list[dict[str, Any]]:
    """Have a worker accept no more connections; those it has go on.

    The last that accepts wants --yes: new connections would wait until undrain.

    Args:
        worker: which one
    """
    return await _tell(context, "drain", 5.0, yes=yes)


@commands.command(role="operator", acts="workers", collects="arbiter", deadline=5.0)
async def undrain(context: ConsoleContext, worker: Worker) -> list[dict[str, Any]]:
    """Have a worker accept connections again.

    Args:
        worker: which one
    """
    return await _tell(context, "undrain", 5.0)


@commands.command(role="operator", acts="workers", collects="arbiter", deadline=_START)
async def restart(
    context: ConsoleContext, worker: Worker,
    *, within: Annotated[Duration | None, "it may drain; --graceful-timeout without it"] = None,
) -> list[Restarted]:
    """Replace one worker: a new one serves, then the old one drains, past its time it is killed.

    One whose loop is blocked cannot drain: its stack goes to the log, and it is killed as soon
    as the new one serves. When the new one does not come up, the old one serves on.

    Args:
        worker: which one; reload replaces all of them
    """
    if context.call.worker == "all":
        raise CommandFailed(
            "restart all: expected one worker; reload replaces all of them", "usage")
    rows: list[dict[str, Any]] = []
    for one in context.workers():
        if one.row.state != "starting":
            rows += await context.arbiter(
                "restart", _START + (within or 0.0), worker=str(one.row.pid), within=within)
    return rows  # type: ignore[return-value]  # rows of it


@commands.command(role="admin", acts="workers", collects="arbiter", deadline=_START)
async def signal(
    context: ConsoleContext, name: str, worker: Worker | None = None
) -> list[dict[str, Any]]:
    """Send a signal to the arbiter, or to a worker; of one that ends, wait for the next.

    Args:
        name: HUP, TERM, USR1...
        worker: which one; without it the arbiter gets it
    """
    if worker is None and context.call.worker == "all":
        return await context.arbiter("signal", 5.0, name=name)
    return await _tell(context, "signal", _START, name=name)


async def _tell(
    context: ConsoleContext, command: str, deadline: float, **arguments: Any
) -> list[dict[str, Any]]:
    """The same to every worker of the call, by their names."""
    if context.call.worker == "all":
        return await context.arbiter(command, deadline, worker="all", **arguments)
    rows: list[dict[str, Any]] = []
    for one in context.workers():
        rows += await context.arbiter(command, deadline, worker=one.row.worker, **arguments)
    return rows
