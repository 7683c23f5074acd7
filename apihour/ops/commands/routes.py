"""What each route of the servers takes, measured while somebody asks.

A server may have ``async measure(seconds)``: rows of ``route``, ``requests``, ``errors``,
``running``, ``cpu`` (seconds) and ``latency`` (pairs of n and the count of answers that took about
1.05 ** n seconds). What it costs is paid in that time only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from apihour.ops.annotations import Duration
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext

commands = Catalogue()

_LONGEST = 600.0  # seconds


@dataclass(frozen=True)
class RouteFigures:
    """One route of one server in one worker."""

    worker: str
    server: str
    route: str
    requests: int
    errors: int
    running: int
    cpu: float
    latency: list[Any]


@commands.command(collects="loop", extends="seconds", deadline=3.0)
async def routes(context: AgentContext, *, seconds: Duration = 2.0) -> list[RouteFigures]:
    """What each route takes in that time"""
    able = [(name, one.server.measure) for name, one in list(context.worker.servers.items())
            if callable(getattr(one.server, "measure", None))]
    measured = await asyncio.gather(*(measure(min(seconds, _LONGEST)) for _, measure in able))
    return [
        RouteFigures(context.worker.name, name, row["route"], row["requests"], row["errors"],
                     row["running"], row["cpu"], row["latency"])
        for (name, _), rows in zip(able, measured, strict=True) for row in rows
    ]
