"""Commands about what a worker serves: health, servers, connections, statistics."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apihour.bind.bans import Bans
from apihour.ops.activity import activity_of
from apihour.ops.annotations import Address, ConnectionId, Seconds
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.connection_row import ConnectionRow, connection_row
from apihour.ops.model import CommandFailed
from apihour.ops.stacks import place_of, places

commands = Catalogue()

_TRIES = 5  # reads of a server's statistics that its loop may spoil


@dataclass(frozen=True)
class Pulse:
    """How a worker's loop is: blocked for how long and where, or fine."""

    worker: str
    blocked: Seconds
    where: str
    threads: int
    blocks: int
    up: Seconds


@dataclass(frozen=True)
class ServerRow:
    """One server of one worker; `state`: accepting, suspended by an operator, or nothing of both.

    `options` is what it asks of connections, by whoever says it.
    """

    name: str
    protocol: str
    address: str
    connections: int
    accepted: int
    refused: int
    state: str
    options: str
    worker: str


@dataclass(frozen=True)
class BusSettings:
    """The section ``bus`` of the configuration."""

    config: Any


@dataclass(frozen=True)
class StatisticRow:
    """One figure of one server, as its plugin names it; a `gauge` falls as well as rises."""

    worker: str
    server: str
    name: str
    value: Any
    gauge: bool = False


@dataclass(frozen=True)
class ClosedRow:
    """A connection that was closed."""

    id: str
    peer: Address
    server: str


@commands.command(hidden=True)
def pulse(context: AgentContext) -> list[Pulse]:
    """How the loop is."""
    blocked = context.watch.blocked()
    where = str(place_of(places(context.watch.frame())) or "") if blocked else ""
    worker = context.worker
    return [Pulse(worker.name, blocked, where, threading.active_count(), context.watch.seen,
                  time.monotonic() - worker.started)]


@commands.command(name="catalogue", hidden=True)
def application_commands(context: AgentContext) -> list[dict[str, Any]]:
    """The application's own commands, as records."""
    return [one.to_record() for one in context.agent.application]


@commands.command(name="bus-settings", role="admin", hidden=True)
def bus_settings(context: AgentContext) -> list[BusSettings]:
    """What the configuration says of the bus, for the console to join its fleet."""
    return [BusSettings(context.worker.container.config.get("bus"))]


@commands.command()
def servers(context: AgentContext) -> list[ServerRow]:
    """Servers: where they listen, how many connections they have and had"""
    worker = context.worker
    open_now = Counter(conn.server.partition("/")[0] for conn in worker.connections)
    return [
        ServerRow(name, one.protocol, " ".join(one.addresses), open_now[name], one.accepted,
                  one.refused, _state_of(one), _options_of(one), worker.name)
        for name, one in list(worker.servers.items())
    ]


@commands.command(name="heed-orders", role="admin", collects="loop", hidden=True)
def heed_orders(context: AgentContext, server: str) -> list[ServerRow]:
    """Learn now what operators say of servers; the one that was told of."""
    context.worker.heed_orders()
    return [row for row in servers(context) if row.name == server]


@commands.command()
def conns(context: AgentContext) -> Iterator[ConnectionRow | float]:
    """Open connections of every protocol"""
    for conn in context.worker.connections:
        yield connection_row(conn, context.worker.name)


@commands.command(hidden=True)
def statistics(context: AgentContext) -> Iterator[StatisticRow | float]:
    """Every figure the servers' plugins keep, read without asking the loop; jobs have no server."""
    jobs = getattr(context.worker, "jobs", None)
    for job, counts in list(jobs.counts.items() if jobs is not None else ()):
        for kind, count in zip(("job_runs", "job_failures"), counts, strict=True):
            yield StatisticRow(context.worker.name, "", kind, {job: count})
    for name, one in list(context.worker.servers.items()):
        for key, value in figures(one).items():
            if key == "slow":  # no figure: requests, which the command of that name shows
                continue
            gauge = key in getattr(getattr(one, "server", None), "gauges", ())
            yield StatisticRow(context.worker.name, name, key, value, gauge)


def figures(serving: Any) -> Mapping[str, Any]:
    """A server's statistics: those its worker noted at the last heartbeat, or fresh ones."""
    noted: Mapping[str, Any] | None = getattr(serving, "numbers", None)
    if noted:
        return noted
    for _ in range(_TRIES):
        try:
            fresh: Mapping[str, Any] = serving.server.statistics()
            return fresh
        except RuntimeError:  # a set changed while it was counted: the loop goes on beside us
            continue
    return {}


@dataclass(frozen=True)
class BanCount:
    """How many connections a worker has refused for one ban."""

    worker: str
    network: str
    refused: int


@commands.command(name="refused-bans", hidden=True)
def refused_bans(context: AgentContext) -> list[BanCount]:
    """Connections refused so far, by ban."""
    bans = context.worker.connections.bans
    counts = list(bans.refused.items()) if bans is not None else []
    return [BanCount(context.worker.name, network, count) for network, count in counts]


@commands.command(name="heed-bans", role="operator", collects="loop", hidden=True)
def heed_bans(context: AgentContext) -> list[ClosedRow]:
    """Learn the bans now, and close the connections that fall under one; no shell's own."""
    bans = context.worker.connections.bans
    if bans is None:
        return []
    bans.look()
    shells = {name for name, one in context.worker.servers.items()
              if getattr(one.server, "is_shell", False)}
    if not bans:
        return []
    closed = []
    for conn in list(context.worker.connections):
        who = "" if conn.server in shells else _banned(conn, bans)
        if who:
            closed.append(ClosedRow(conn.table.label(conn.id), who, conn.server))
            conn.close("banned")
    return closed


def _banned(conn: Any, bans: Bans) -> str:
    """Who has the connection, where that is banned: its peer, or whose request is under way."""
    if bans.find(conn.peer_address):
        return str(conn.peer)
    client = activity_of(conn.transport).client
    return client if bans.find((client, 0)) else ""


@commands.command(role="operator", collects="loop")
def kick(context: AgentContext, *connections: ConnectionId) -> list[ClosedRow]:
    """Close connections at once; of several, those that are gone by now are left out.

    Args:
        connections: their ids, as conns shows them
    """
    found = [(one, context.worker.connections.find(one)) for one in connections]
    if len(found) == 1 and found[0][1] is None:
        raise CommandFailed(f"connection {connections[0]!r:.80}: there is none of that id; conns "
                            "lists those there are", "gone")
    closed: list[ClosedRow] = []
    for label, conn in found:
        if conn is not None:
            conn.close("kicked")
            closed.append(ClosedRow(label, conn.peer, conn.server))
    return closed


def _state_of(serving: Any) -> str:
    """``accepting``, ``suspended`` by an operator, or empty: others accept, or nobody does."""
    if any(acceptor.is_held for acceptor in serving.acceptors):
        return "suspended"
    return "accepting" if any(acceptor.is_started for acceptor in serving.acceptors) else ""


def _options_of(serving: Any) -> str:
    """What its connections are asked; of several binds that differ, of each."""
    asked = {str(one.door.options) if one.door else f"limit={one.limit}" if one.limit else ""
             for one in serving.acceptors}
    return " / ".join(sorted(asked))
