"""A worker's row of the scoreboard at one moment, for who shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from apihour.ipc.scoreboard import BoardRow, WorkerState

__all__ = ["RowRecord", "row_record"]


@dataclass(frozen=True)
class RowRecord:
    """One worker at one moment; ages, lag and times left in seconds."""

    worker: str
    pid: int
    slot: int
    generation: int
    state: str
    age: float
    silent: float
    connections: int
    accepted: int
    lag: float
    accepting: bool
    requests: int
    errors: int
    refused: int
    left: int
    drain_total: int
    time_left: float
    blocks: int
    lost_lines: int
    engines_down: int = 0
    """Engines it is not ready without, that are down."""


def row_record(row: BoardRow) -> RowRecord:
    """What the row says now."""
    now = time.monotonic()
    return RowRecord(
        worker=row.worker, pid=int(row.pid), slot=int(row.slot),
        generation=int(row.generation), state=WorkerState(int(row.state)).name.lower(),
        age=max(0.0, now - row.started), silent=max(0.0, now - row.heartbeat),
        connections=int(row.connections), accepted=int(row.accepted), lag=row.lag,
        accepting=bool(row.accepting), requests=int(row.requests),
        errors=int(row.errors), refused=int(row.refused), left=int(row.left),
        drain_total=int(row.drain_total),
        time_left=max(0.0, row.deadline - now) if row.deadline else 0.0,
        blocks=int(row.blocks), lost_lines=int(row.lost_lines),
        engines_down=int(row.engines_down),
    )
