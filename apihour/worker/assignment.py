"""What one worker process is given at its fork, whoever forks it."""

from __future__ import annotations

from dataclasses import dataclass

from apihour.bind.listeners import Listener
from apihour.ipc.channel import Channel
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import BoardRow, Scoreboard

__all__ = ["Assignment"]


@dataclass(frozen=True)
class Assignment:
    """Its place and its means; `ppid` is the arbiter's, `age` counts the workers of one.

    `start` counts the processes that have had this slot in this generation.
    """

    age: int
    ppid: int
    slot: int
    generation: int
    sockets: list[Listener]
    channel: Channel
    row: BoardRow
    scoreboard: Scoreboard
    runtime: Runtime
    start: int = 1
