"""What is told of the hosts of a fleet: rows, nothing that carries them out."""

from __future__ import annotations

from dataclasses import dataclass

from apihour.ops.annotations import Seconds

__all__ = ["HostDeed", "HostRow"]


@dataclass(frozen=True)
class HostRow:
    """One host of the fleet; `answers`: how long it took to, None where it does not."""

    host: str
    status: str
    workers: int
    generation: int
    version: str
    answers: Seconds | None


@dataclass(frozen=True)
class HostDeed:
    """What became of one host in a reload of all.

    `outcome`: done, failed, returned, not reached, or unknown where its answer was lost.
    """

    host: str
    outcome: str
    seconds: Seconds | None = None
    error: str = ""
