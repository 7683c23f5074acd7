"""What the arbiter's parts need of one another: a few narrow protocols.

Each is what one part can do for another; who does it is decided where all are put together.
"""

from __future__ import annotations

from typing import Any, Protocol

from apihour.books.probe import Probe
from apihour.books.worker_record import WorkerRecord

__all__ = ["Keeper", "Prober", "Replacing"]


class Prober(Protocol):
    """Who imports the application, and may keep the child that did as a template."""

    def start_probe(self, release: str | None = None) -> Probe:
        """Fork the child that imports the application, in `release` if given. Raises OSError."""

    def settle(self, generation: int, probe: Any) -> bool:
        """After its report: whether the probe stays, as the template of `generation`."""

    def drop(self, generation: int) -> None:
        """End the template of a generation, if there is one."""


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
