"""The arbiter's books: all of its state that more than one part of it reads or writes.

Rules:

- They decide nothing and wait for nothing; who acts is given them, and the few others that it
  needs, never the arbiter.
- ``parts`` are what the loop turns over, in this order; one that is behind a door joins them when
  that is opened.
- A worker is in ``workers`` or in ``retiring``, never in both.
- gunicorn's own names (``WORKERS``, ``LISTENERS``, ``num_workers``, ``cfg``) are properties
  of the arbiter over these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from apihour.bind.listeners import Listener
from apihour.books.part import ArbiterPart
from apihour.books.server_hooks import Hooks
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard
from apihour.ops.logring import LogRing

__all__ = ["INHERITED", "Books", "Replacing"]

INHERITED = "APIHOUR_UPGRADE"
"""The variable that hands an arbiter what it takes over from the one before."""

_REMEMBERED = 20  # generations; of older ones no worker lives
_RELEASES = 20  # to go back to; who keeps more on the disk has a name for them


class Replacing(Protocol):
    """A reload under way, as the rest of the arbiter sees it."""

    generation: int

    def opened(self) -> list[Listener]:
        """What its workers and its console listen on."""

    @property
    def has_replaced(self) -> bool:
        """Whether old workers have retired already, for new ones in their place."""

    def on_worker_lost(self, worker: WorkerRecord, message: str, detail: str) -> None:
        """A new worker died or could not start."""


def _tell_nobody(*lines: str) -> None:
    """No service manager waits for a word."""


@dataclass(eq=False, repr=False)
class Books:
    """What one arbiter knows.

    `extras` are the console's and health's own listeners; `probes` the pids of children that
    are no workers; `starts` counts the processes that have had a slot in a generation;
    `operator_workers` is the number an operator has asked for, if any;
    `reload` the one under way. `taking_over` is true from an upgrade's start until every
    wanted worker is ready, `handed_over` once another arbiter is the daemon's. `releases` are the
    directories that generations have run in, the present one last; `tell_service` tells the
    service manager lines of sd_notify(3). `has_room` is whether the runtime directory is there,
    once it has been made.
    """

    hooks: Hooks
    app: Any = None
    cfg: Any = None
    log: Any = None
    ring: LogRing = field(default_factory=LogRing)
    parts: list[ArbiterPart] = field(default_factory=list)
    tell_service: Callable[..., None] = _tell_nobody
    pid: int = 0
    proc_name: str = ""
    generation: int = 1
    releases: list[str] = field(default_factory=list)
    runtime: Runtime = field(init=False)
    scoreboard: Scoreboard = field(init=False)

    operator_workers: int | None = None
    workers: dict[int, WorkerRecord] = field(default_factory=dict)
    retiring: dict[int, WorkerRecord] = field(default_factory=dict)
    worker_age: int = 0
    starts: Counter[tuple[int, int]] = field(default_factory=Counter)
    probes: set[int] = field(default_factory=set)
    listeners: list[Listener] = field(default_factory=list)
    extras: dict[str, Listener] = field(default_factory=dict)
    reload: Replacing | None = None

    has_room: bool = True
    systemd: bool = False
    taking_over: bool = False
    handed_over: bool = False
    came_up: bool = False
    ever_ready: bool = False
    stopping: bool = False
    boot_error: tuple[str, str] | None = None
    _num_workers: Any = None

    def count_start(self, slot: int, generation: int) -> int:
        """Count one process more for that slot of that generation; returns how many by now."""
        for old in [key for key in self.starts if key[1] < generation - _REMEMBERED]:
            del self.starts[old]
        self.starts[slot, generation] += 1
        return self.starts[slot, generation]

    def note_release(self, directory: str) -> None:
        """A generation that runs in this directory serves."""
        if self.releases[-1:] != [directory]:
            self.releases = [*self.releases, directory][-_RELEASES:]

    @property
    def num_workers(self) -> Any:
        """How many workers are wanted now; None until the first configuration is in force."""
        return self._num_workers

    @num_workers.setter
    def num_workers(self, count: int) -> None:
        before, self._num_workers = self._num_workers, count
        self.hooks.call(self.cfg, "nworkers_changed", count, before)

    def scale(self, count: int) -> None:
        """The operator's own number of workers."""
        self.operator_workers = count
        self.num_workers = count

    def wanted_workers(self, cfg: Any) -> int:
        """How many workers there should be: the operator's word counts over the file's.

        Within a range it is what the load has asked for so far.
        """
        count = cfg.worker_count
        wanted = self.operator_workers or min(max(self.num_workers, count.minimum), count.maximum)
        return int(wanted)

    def wanted_slots(self, cfg: Any) -> int:
        """For how many workers a ``?reuse_port`` bind has sockets."""
        return max(self.wanted_workers(cfg), int(cfg.worker_count.maximum))

    def live_workers(self) -> list[WorkerRecord]:
        """The workers on the books, of any generation; those that retire are not."""
        return list(self.workers.values())

    def all_workers(self) -> list[WorkerRecord]:
        """Those that retire, too."""
        return [*self.workers.values(), *self.retiring.values()]

    def all_listeners(self) -> list[Listener]:
        return [*self.listeners, *self.extras.values()]

    def held_listeners(self) -> list[Listener]:
        """Those of a reload under way, too: what a child inherits."""
        return [*self.all_listeners(), *(self.reload.opened() if self.reload is not None else ())]

    @property
    def has_runtime(self) -> bool:
        """Whether the runtime directory is there yet; the first probe is forked before."""
        return hasattr(self, "scoreboard")
