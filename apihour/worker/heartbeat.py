"""A worker's heartbeat, a timer of its loop, and the numbers that it writes with each beat."""

from __future__ import annotations

import time
from typing import Protocol

from apihour.bind.bans import Bans
from apihour.config.log import lost_lines
from apihour.ipc.scoreboard import BoardRow, Figure, WorkerState
from apihour.worker.accept import Balance
from apihour.worker.servers import ServerSet, WorkerHost

__all__ = ["BEAT", "Heartbeat"]

BEAT = 0.25  # seconds between two heartbeats; lag shorter than this is still measured
_FOREIGN_AGE = 1.0  # seconds without a heartbeat after which a worker does not count for balance


class Beating(WorkerHost, Protocol):
    """What a beat reads and sets besides; `beat` is a time of the monotonic clock."""

    beat: float
    booted: bool


class Heartbeat:
    """Beats as long as the loop turns, so a blocked loop is seen from outside."""

    def __init__(self, host: Beating, servers: ServerSet, bans: Bans) -> None:
        self.balance = Balance(host.row, self._neighbours)
        self._host = host
        self._servers = servers
        self._bans = bans
        self._due = 0.0

    def begin(self) -> None:
        """From now on there is a beat every :data:`BEAT` seconds."""
        self._due = time.monotonic() + BEAT
        self._host.loop.call_later(BEAT, self._on_beat)

    def _on_beat(self) -> None:
        host, row, now = self._host, self._host.row, time.monotonic()
        host.beat = row.heartbeat = now
        row.lag = max(0.0, now - self._due)
        self._count(row)
        self._bans.look()
        if host.booted:
            self._servers.heed_orders()
        row.lost_lines = lost_lines(host.log)
        engines = getattr(host.container, "engines", None)
        if engines:
            row.engines_down = sum(
                getattr(one, "health", False) is True and not one.up for one in engines.values())
        if row.state == WorkerState.DRAINING:
            row.left = len(host.connections)
        elif host.booted and row.accepting:
            self._mind_others(now)
        self.begin()

    def _count(self, row: BoardRow) -> None:
        requests = errors = refused = 0
        for serving in self._servers.all.values():
            # Noted for the agent, which reads them while the loop is blocked.
            numbers = serving.numbers = serving.statistics()
            requests += numbers.get("requests", 0)
            errors += (numbers.get("responses") or {}).get("5xx", 0)
            refused += serving.refused
        row.requests, row.errors, row.refused = requests, errors, refused

    def _mind_others(self, now: float) -> None:
        """How many connections they have, and slots that none of them serves."""
        host = self._host
        self.balance.refresh()
        served = {int(other.slot) for other in self.balance.rows} | {host.slot}
        for serving in self._servers.all.values():
            serving.mind_slots(served, int(host.scoreboard.figure(Figure.WANTED)), now)

    def _neighbours(self) -> list[BoardRow]:
        """The other workers of this daemon that accept and are alive."""
        oldest, own = time.monotonic() - _FOREIGN_AGE, self._host.row
        return [
            row for row in self._host.scoreboard.used()
            if row.accepting and row.heartbeat > oldest and row.index != own.index
        ]
