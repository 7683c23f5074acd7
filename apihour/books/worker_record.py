"""What the arbiter knows of one worker; what the worker itself is lives in apihour.worker.

Hooks of the configuration file are handed it where gunicorn hands over its worker before the
fork and after the worker's end, so its first fields have gunicorn's names.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, fields
from typing import Any

from apihour.bind.listeners import Listener
from apihour.config.configuration import Configuration
from apihour.ipc.channel import Channel
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import BoardRow, Scoreboard
from apihour.worker.assignment import Assignment

__all__ = ["WorkerRecord"]


@dataclass(eq=False, repr=False)
class WorkerRecord:
    """One worker on the books, or retiring; `channel` is the arbiter's end.

    `spawned`, `kill_at` and `aborted_at` are times of the monotonic clock, in seconds; 0.0 is
    never. `failure` is one line and its traceback. `configuration` is what a reload that is not
    through yet has read. `start` counts the processes that have had its name.
    """

    age: int
    ppid: int
    sockets: list[Listener]
    app: Any
    cfg: Any
    log: Any
    slot: int
    generation: int
    row: BoardRow
    channel: Channel
    configuration: Configuration | None = None
    spawned: float = 0.0
    pid: Any = "[booting]"
    name: str = ""
    channel_open: bool = True
    ready: bool = False
    report: dict[str, Any] = field(default_factory=dict)
    under_way: str = ""
    failure: tuple[str, str] | None = None
    suspended: bool = False
    due: int = 0
    stack_logged: bool = False
    aborted_at: float = 0.0
    kill_at: float = 0.0
    told: int = int(signal.SIGTERM)
    start: int = 1

    def __post_init__(self) -> None:
        self.name = self.row.worker

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    def assignment(self, channel: Channel, scoreboard: Scoreboard, runtime: Runtime) -> Assignment:
        """What its process is given; `channel` is the worker's end."""
        return Assignment(
            age=self.age, ppid=self.ppid, slot=self.slot, generation=self.generation,
            sockets=self.sockets, channel=channel, row=self.row, scoreboard=scoreboard,
            runtime=runtime, start=self.start)

    def marks(self) -> dict[str, Any]:
        """What a pre_fork hook has noted on it, for post_fork in the worker to find."""
        known = {each.name for each in fields(self)}
        return {name: value for name, value in vars(self).items() if name not in known}
