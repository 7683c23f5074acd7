"""The command about who is connected: ``presence``, of what the workers themselves have said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from apihour.errors import ApihourError
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.model import CommandFailed
from apihour.ops.rows import stamp

commands = Catalogue()


@dataclass(frozen=True)
class PresentRow:
    """Somebody's connection, by way of one worker; `about` as JSON."""

    worker: str
    who: str
    subject: str
    since: str
    about: str


@commands.command()
def presence(context: AgentContext, pattern: str = ">") -> Iterator[PresentRow | float]:
    """Who is connected, as the application has said to container.presence

    Args:
        pattern: subjects, * for one token, > at the end for the rest; default: all
    """
    own = getattr(context.worker.container, "__dict__", {}).get("presence")
    if own is None:
        return  # the application does not use it
    try:
        found = own.own(pattern)
    except ApihourError as error:
        raise CommandFailed(str(error), "usage") from error
    for entry in found:
        yield PresentRow(context.worker.name, entry.who, entry.subject, stamp(entry.since),
                         json.dumps(entry.about) if entry.about else "")
