"""The commands that give figures: rates, health, metrics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from apihour.ops.annotations import Bytes, Percent, Seconds
from apihour.ops.catalogue import Catalogue
from apihour.ops.rows import to_rows
from apihour_console.calls.call import DONE, FAILED, Result
from apihour_console.commands import certs
from apihour_console.fleet.census import Seen, state_of
from apihour_console.fleet.context import ConsoleContext
from apihour_console.fleet.metrics import MetricRow, readiness
from apihour_console.fleet.trouble import HealthRow, disks, troubles

__all__ = ["commands"]

commands = Catalogue()


@dataclass(frozen=True)
class TopRow:
    """One worker or one server; what ends in ``_s`` is per second."""

    kind: str
    name: str
    state: str
    requests_s: float
    connections: int
    accepted_s: float
    errors_s: float
    cpu: Percent | None
    rss: Bytes | None
    lag: Seconds | None


@commands.command(collects="console")
async def top(context: ConsoleContext) -> list[TopRow]:
    """What every worker and every server is doing, per second"""
    rates = context.fleet.rates
    if time.monotonic() - rates.at > 5.0:
        await _look(context)
        context.missing.clear()
        await asyncio.sleep(0.5)
    seen, server_rows = await _look(context)
    rows = [
        TopRow("worker", one.row.worker, state_of(one), rates.rate("requests", one.row.worker),
               one.row.connections, rates.rate("accepted", one.row.worker),
               rates.rate("errors", one.row.worker), one.cpu, one.process.rss, one.lag)
        for one in seen
    ]
    open_now: Counter[str] = Counter()
    protocols: dict[str, str] = {}
    for row in server_rows:
        open_now[row["name"]] += row["connections"]
        protocols[row["name"]] = row["protocol"]
    rows += [
        TopRow("server", name, protocols[name], rates.rate("server", name, "requests"), count,
               rates.rate("server", name, "accepted"), rates.rate("server", name, "errors"),
               None, None, None)
        for name, count in open_now.items()
    ]
    return rows


async def _look(context: ConsoleContext) -> tuple[list[Seen], list[dict[str, Any]]]:
    seen = context.workers()
    server_rows, statistics = await asyncio.gather(
        context.ask("servers", 0.5, seen), context.ask("statistics", 0.5, seen)
    )
    context.missing[:] = {one.worker: one for one in context.missing}.values()
    counters: dict[tuple[str, ...], float] = {}
    for one in seen:
        name = one.row.worker
        counters["requests", name] = one.row.requests
        counters["accepted", name] = one.row.accepted
        counters["errors", name] = one.row.errors
    for row in server_rows:
        counters["server", row["name"], "accepted", row["worker"]] = row["accepted"]
    for row in statistics:
        value = row["value"]
        if row["name"] in ("requests", "errors") and isinstance(value, int | float):
            counters["server", row["server"], row["name"], row["worker"]] = value
        elif row["name"] == "responses" and isinstance(value, dict):
            counters["server", row["server"], "errors", row["worker"]] = value.get("5xx", 0)
    context.fleet.rates.look(time.monotonic(), counters)
    return seen, server_rows


@commands.command(collects="console")
async def health(context: ConsoleContext) -> Any:
    """Whether the daemon is ready, and what is wrong where; exit status 1 when something is

    Wrong is: no worker accepts, or fewer run than wanted; a worker is stuck or stopped; of the
    requests of the last ten seconds or the last minute more than one in ten, and five, got a 5xx;
    a log line of the last minute was lost; a disk that logs, keys or the daemon's own files are on
    is full; a certificate has fewer than 14 days left, or a quarter.
    """
    fleet = context.fleet
    ready, reason = readiness(fleet.census)
    daemons = fleet.census.daemons()
    fleet.recent.note(time.monotonic(), fleet.census.workers(), daemons)
    # Who does not answer has a row of its own below.
    served = await fleet.collect("certs", {}, context.identity.role, [
        one for one in context.workers() if not one.is_stuck and not one.is_stopped], 0.7)
    rows = [HealthRow("daemon", "ready" if ready else "not ready", reason), *troubles(
        context.workers(), daemons, fleet.recent, disks(fleet.disks)),
        *certs.expiring(certs.merged(served.rows))]
    result = Result.of(context.call, to_rows(rows))
    wrong = any(row.status.startswith("not") for row in rows)
    return Result(result.columns, result.rows, status=FAILED if wrong else DONE)


@commands.command(collects="console")
async def metrics(context: ConsoleContext) -> list[MetricRow]:
    """Every figure of the daemon, merged over workers, as /metrics serves them"""
    families, missing = await context.fleet.meter.collect()
    context.missing += missing
    return [row for family in families for row in family.rows()]
