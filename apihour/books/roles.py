"""What the arbiter's parts need of one another: a few narrow protocols.

Each is what one part can do for another; who does it is decided where all are put together.
"""

from __future__ import annotations

import signal
from typing import Any, Protocol

from apihour.bind.listeners import Listener
from apihour.books.probe import Probe
from apihour.books.worker_record import WorkerRecord
from apihour.config.configuration import Configuration
from apihour.ipc.channel import Channel

__all__ = [
    "Crew", "Follower", "Forker", "Keeper", "Prober", "Replacing", "Retirer",
]

_RETIRE = int(signal.SIGTERM)


class Retirer(Protocol):
    """Who ends workers."""

    def retire(self, worker: WorkerRecord, sig: int = _RETIRE) -> None:
        """Take a worker off the books and follow it to its own deadline."""

    def send(self, worker: WorkerRecord, sig: int) -> None:
        """Send a signal, if it lives."""

    def tell(self, pid: int, sig: int) -> None:
        """A TERM retires, anything else is sent."""

    def kill_retiring(self) -> None:
        """End the retiring workers that are past their deadline."""


class Crew(Retirer, Protocol):
    """Who starts workers and ends them."""

    def spawn(
        self, slot: int, generation: int, listeners: list[Listener], cfg: Any,
        configuration: Configuration | None = None,
    ) -> WorkerRecord:
        """Fork one worker into a slot; `configuration` is what a reload has read for it.

        Raises OSError or ScoreboardFullError when there is no room for it, HookError when
        pre_fork failed.
        """


class Forker(Protocol):
    """A way to fork a worker."""

    def fork(self, record: WorkerRecord, channel: Channel) -> int:
        """Fork its process, with its end of the channel; returns the pid.

        0 when there is no worker of this generation to be had this way. Raises OSError when
        the system has no room for a process.
        """


class Prober(Protocol):
    """Who imports the application, and may keep the child that did as a template."""

    def start_probe(self, release: str | None = None) -> Probe:
        """Fork the child that imports the application, in `release` if given. Raises OSError."""

    def settle(self, generation: int, probe: Any) -> bool:
        """After its report: whether the probe stays, as the template of `generation`."""

    def drop(self, generation: int) -> None:
        """End the template of a generation, if there is one."""


class Follower(Protocol):
    """What stands round the workers and follows a reload."""

    def configure(self) -> None:
        """The application's configuration is in force now: take it over, logging too."""

    def follow(self) -> None:
        """Another generation serves."""


class Replacing(Protocol):
    """A reload under way, as the rest of the arbiter sees it."""

    @property
    def generation(self) -> int: ...

    @property
    def has_replaced(self) -> bool:
        """Whether old workers have retired already, for new ones in their place."""

    def on_worker_lost(self, worker: WorkerRecord, message: str, detail: str) -> None:
        """A new worker died or could not start."""


class Keeper(Protocol):
    """Who replaces workers."""

    def replace(self, worker: WorkerRecord, reason: str) -> WorkerRecord | None:
        """Replace a worker because an operator wants it; returns the new one, if any."""
