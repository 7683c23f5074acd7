"""The arbiter's books: all of its state that more than one part of it reads or writes.

Rules:

- They decide nothing and wait for nothing; who acts is given them, and the narrow roles of
  :mod:`apihour.books.roles` that it needs, never the arbiter.
- A worker is in ``workers`` or in ``retiring``, never in both.
- gunicorn's own names (``WORKERS``, ``LISTENERS``, ``num_workers``, ``cfg``) are properties
  of the arbiter over these.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from apihour.bind.listeners import Listener
from apihour.books.releases import Releases
from apihour.books.roles import Replacing
from apihour.books.server_hooks import Hooks
from apihour.books.service_manager import ServiceManager
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard

__all__ = ["Books"]

_REMEMBERED = 20  # generations; of older ones no worker lives


@dataclass(eq=False, repr=False)
class Books:
    """What one arbiter knows.

    `extras` are the console's and health's own listeners; `probes` the pids of children that
    are no workers; `starts` counts the processes that have had a slot in a generation;
    `operator_workers` is the number an operator has asked for, if any;
    `reload` the one under way. `taking_over` is true from an upgrade's start until every
    wanted worker is ready. `lingering` is the part of a stop in which workers still serve.
    """

    hooks: Hooks
    app: Any = None
    cfg: Any = None
    log: Any = None
    service: ServiceManager = field(default_factory=lambda: ServiceManager(None, {}, 0))
    pid: int = 0
    proc_name: str = ""
    generation: int = 1
    releases: Releases = field(init=False)
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

    systemd: bool = False
    taking_over: bool = False
    came_up: bool = False
    ever_ready: bool = False
    stopping: bool = False
    lingering: bool = False
    boot_error: tuple[str, str] | None = None
    _num_workers: Any = None

    def count_start(self, slot: int, generation: int) -> int:
        """Count one process more for that slot of that generation; returns how many by now."""
        for old in [key for key in self.starts if key[1] < generation - _REMEMBERED]:
            del self.starts[old]
        self.starts[slot, generation] += 1
        return self.starts[slot, generation]

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

    @property
    def is_the_one(self) -> bool:
        """Whether this arbiter owns the daemon; one still taking over does not."""
        return not self.taking_over

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

    @property
    def has_runtime(self) -> bool:
        """Whether the runtime directory is there yet; the first probe is forked before."""
        return hasattr(self, "scoreboard")
