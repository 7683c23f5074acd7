"""Where proxies pass connections on to, and how that goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apihour.ops.annotations import Bytes
from apihour.ops.catalogue import Catalogue
from apihour_console.fleet.context import ConsoleContext

__all__ = ["UpstreamTotal", "commands", "summed"]

commands = Catalogue()
_PREFIX = "upstream_"  # of the figures that a server keeps by upstream


@dataclass(frozen=True)
class UpstreamTotal:
    """One upstream of one server; each worker finds out by itself whether it is up."""

    server: str
    upstream: str
    state: str
    connections: int
    accepted: int
    failed: int
    bytes_in: Bytes
    bytes_out: Bytes
    workers: int


@commands.command(collects="console")
async def upstreams(context: ConsoleContext) -> list[UpstreamTotal]:
    """Upstreams of the proxies, and whether they are up; those that are down on top

    Bytes in come from the upstream. One that DNS names no more is here while it has connections.
    """
    return summed(await context.ask("statistics"))


def summed(rows: Iterable[Mapping[str, Any]]) -> list[UpstreamTotal]:
    """One row for each upstream of each server, over the workers."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row["name"].startswith(_PREFIX) and isinstance(row["value"], dict):
            for upstream, value in row["value"].items():
                figures = found.setdefault((row["server"], upstream), {})
                figures.setdefault(row["name"].removeprefix(_PREFIX), []).append(value)
    made = [_total(*key, figures) for key, figures in found.items()]
    return sorted(made, key=lambda one: (one.state == "up", one.server, one.upstream))


def _total(server: str, upstream: str, figures: Mapping[str, list[float]]) -> UpstreamTotal:
    up = figures.get("up", [])
    state = "up" if all(up) else f"up in {sum(map(int, up))} of {len(up)}" if any(up) else "down"
    connections, accepted, failed, came, went = (
        int(sum(figures.get(name, ())))
        for name in ("connections", "accepted", "failed", "bytes_in", "bytes_out"))
    return UpstreamTotal(server, upstream, state, connections, accepted, failed, came, went,
                         len(up))
