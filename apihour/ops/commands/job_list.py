"""The jobs of the container: what is known of each, and telling one to run, or not to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from apihour.errors import JobError
from apihour.ops.annotations import Acts, Seconds
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.model import CommandFailed, Role
from apihour.ops.rows import stamp

commands = Catalogue()


@dataclass(frozen=True)
class JobRow:
    """One job of the daemon; `took` is of its last run, or of the one that is under way."""

    job: str
    state: str
    schedule: str
    next: str
    last: str
    took: Seconds
    result: str
    worker: str
    runs: int
    failures: int


@commands.command(collects="loop", scope="one")
async def jobs(
    context: AgentContext, job: str | None = None,
    action: Annotated[Literal["run", "pause", "resume"] | None, Acts()] = None,
) -> list[JobRow]:
    """Jobs of the container: when each is due, and how its last run went; or act on one.

    run begins one now, in one worker, and does not wait for its end; a paused one too. A paused
    one begins no more until it is resumed, in no worker; what runs goes on. Acting needs role
    operator.

    Args:
        job: its name
        action: run, pause or resume it
    """
    if action is not None and context.role < Role.OPERATOR:
        raise CommandFailed(f"jobs: {action} needs role operator", "role")
    own: Any = getattr(context.worker, "jobs", None)
    if own is None:
        if job is not None:
            raise CommandFailed(f"job {job!r:.80}: there is none; expected a container that has "
                                "jobs")
        return []
    try:
        if job is not None:
            return [_row(await getattr(own, action or "state")(job))]
        return [_row(one) for one in await own.states()]
    except JobError as error:
        raise CommandFailed(str(error)) from error


def _row(one: Any) -> JobRow:
    return JobRow(
        one.name, one.state, one.schedule, _time(one.next), _time(one.last), one.took, one.result,
        one.worker, one.runs, one.failures)


def _time(seconds: float) -> str:
    return stamp(seconds) if 0 < seconds < float("inf") else ""
