"""A crew that forks nothing: real books, a clock, and what it was told to do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from apihour.books.books import Books
from apihour.books.worker_record import WorkerRecord
from apihour.config.values import WorkerCount
from apihour.ipc.scoreboard import WorkerState


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeLog:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _line(self, text: str, *args: Any) -> None:
        self.lines.append(text % args if args else text)

    debug = info = warning = error = critical = exception = _line


def make_cfg(**options: Any) -> Any:
    """A configuration with everything off, and as many workers as are wanted."""
    count = options.get("workers", 2)
    values: dict[str, Any] = {
        "boot_timeout": 10.0, "canary": 0, "canary_time": 5.0, "canary_errors": 0.05,
        "surge": 0, "workers": 2, "worker_count": WorkerCount(count, count), "max_requests": 0,
        "max_requests_jitter": 0, "max_age": 0.0, "max_rss": 0, "timeout": 30,
        "graceful_timeout": 30, "env": {}, "env_orig": {}, "backlog": 16,
    }
    assert options.keys() <= values.keys()
    return SimpleNamespace(**{**values, **options})


class FakeCrew:
    """Starts and ends workers on real books; as :class:`apihour.books.children.Children`."""

    def __init__(self, clock: Clock, workers: int = 2, **options: Any) -> None:
        self.clock = clock
        self.log = FakeLog()
        self.counted: list[Any] = []
        self.books = Books(Mock())
        self.books.log = self.log
        self.books.cfg = make_cfg(workers=workers, **options)
        self.books.num_workers = workers
        self.books.runtime = SimpleNamespace()  # type: ignore[assignment]
        self.books.scoreboard = SimpleNamespace(  # type: ignore[assignment]
            count_figure=self.counted.append, set_figure=lambda field, value: None)
        self.books.releases = ["/", "/1"]
        self.retired: list[str] = []
        self.spawn_error: Exception | None = None
        self.signals: list[tuple[Any, Any]] = []
        self._pids = itertools.count(5_000_001)  # none that Linux gives (PID_MAX_LIMIT)

    @property
    def workers(self) -> list[Any]:
        return self.books.live_workers()

    def spawn(
        self, slot: int, generation: int, listeners: list[Any], cfg: Any, configuration: Any = None
    ) -> Any:
        if self.spawn_error is not None:
            raise self.spawn_error
        row: Any = SimpleNamespace(
            worker=f"{slot}.{generation}", generation=generation, requests=0.0, errors=0.0,
            lag=0.0, heartbeat=self.clock.now, state=WorkerState.STARTING, blocks=0.0)
        worker: Any = WorkerRecord(
            age=0, ppid=1, sockets=listeners, app=None, cfg=cfg, log=None, slot=slot,
            generation=generation, row=row, channel=Mock(), configuration=configuration,
            spawned=self.clock.now, pid=next(self._pids))
        self.books.workers[worker.pid] = worker
        return worker

    def retire(self, worker: Any, sig: int = 15) -> None:
        self.remove(worker)
        self.retired.append(worker.name)

    def send(self, worker: Any, sig: int) -> None:
        self.signals.append((worker.pid, sig))

    def kill_retiring(self) -> None: ...

    # -- what the test makes happen --------------------------------------------------------

    def remove(self, worker: Any) -> None:
        """It is gone from the books."""
        (pid,) = [pid for pid, each in self.books.workers.items() if each is worker]
        del self.books.workers[pid]

    def ready(self, only: Callable[[Any], bool] = lambda worker: True) -> list[Any]:
        """Let the workers come up; returns those that are ready now."""
        for worker in filter(only, self.workers):
            worker.ready = True
            worker.row.state = WorkerState.SERVING
        return [worker for worker in self.workers if worker.ready]

    def names(self) -> list[str]:
        return sorted(worker.name for worker in self.workers)
