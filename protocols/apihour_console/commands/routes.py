"""Which routes are hot, slow or failing: ``routes``, merged over the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from apihour.ops.annotations import Duration, Percent, Seconds, Short
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed
from apihour_console.fleet.context import ConsoleContext

__all__ = ["Route", "commands", "merged"]

commands = Catalogue()

_STEP = 1.05  # from one bucket of latency to the next


@dataclass(frozen=True)
class Route:
    """One route of one server over all workers; `cpu` in percent of one CPU."""

    server: str
    route: str
    requests_s: float
    p50: Seconds | None
    p99: Seconds | None
    errors_s: float
    cpu: Percent
    running: int
    requests: int


@commands.command(collects="console", extends="seconds", deadline=3.0, merges=True)
async def routes(
    context: ConsoleContext, *, seconds: Annotated[Duration, Short("s"), "how long"] = 2.0,
) -> list[Route]:
    """Requests per second, p50, p99, 5xx and CPU share of each route, the hottest on top.

    It is measured while you wait, and costs nothing before and after. Latency is from a
    request's arrival to its answer; running are those that began meanwhile and have none yet.
    CPU is the loop's: what threads of blocking endpoints use is not in it. The row without a
    route is what no route took.
    """
    if not 0 < seconds <= 600:
        raise CommandFailed(f"routes: --seconds {seconds:g}: expected up to 600", "usage")
    return merged(await context.ask("routes", seconds + 3.0, seconds=seconds), seconds)


def merged(rows: Iterable[Mapping[str, Any]], seconds: float) -> list[Route]:
    """One row for each route; `seconds` is how long was measured."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["server"], row["route"]), []).append(row)
    made = [_route(*key, same, seconds) for key, same in groups.items()]
    return sorted(made, key=lambda one: (-one.cpu, -one.requests, one.route))


def _route(server: str, route: str, rows: list[Mapping[str, Any]], seconds: float) -> Route:
    latency: Counter[int] = Counter()
    for row in rows:
        latency.update(dict(row["latency"]))
    count = sum(row["requests"] for row in rows)
    return Route(
        server, route, round(count / seconds, 1), _quantile(latency, 0.5),
        _quantile(latency, 0.99), round(sum(row["errors"] for row in rows) / seconds, 1),
        round(100.0 * sum(row["cpu"] for row in rows) / seconds, 1),
        sum(row["running"] for row in rows), count,
    )


def _quantile(latency: Mapping[int, int], share: float) -> float | None:
    """The time that this share of the answers took at most; None without any."""
    left = share * sum(latency.values())
    for bucket in sorted(latency):
        left -= latency[bucket]
        if left <= 0:
            return float(_STEP**bucket)
    return None
