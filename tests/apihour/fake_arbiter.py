"""An arbiter that forks nothing: books, a clock, and a list of what it was told to do."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import Mock

from apihour.arbiter.probe import ProbeReport
from apihour.config.settings import WorkerCount
from apihour.ipc.scoreboard import State


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


class FakeProbe:
    """A probe whose report comes when the test says so."""

    def __init__(self) -> None:
        self.report: ProbeReport | None = None
        self.killed = self.closed = False

    def poll(self) -> ProbeReport | None:
        return self.report

    def kill(self) -> None:
        self.killed = True

    def close(self) -> None:
        self.closed = True


class FakeApp:
    """An application whose state is one word."""

    def __init__(self) -> None:
        self.word = "old"
        self.bind_levels: list[list[str]] = []
        self.release = ""

    def state(self) -> Any:
        return FakeState(self.word)

    def restore(self, state: Any) -> None:
        self.word = state.word


class FakeState(NamedTuple):
    word: str
    cfg: Any = None


class FakeListener:
    def __init__(self, name: str) -> None:
        self.name = name
        self.inode: int | None = None
        self.did: list[str] = []

    def close(self) -> None:
        self.did.append("close")

    def unlink(self) -> None:
        self.did.append("unlink")


def make_cfg(**options: Any) -> Any:
    """A configuration with everything off."""
    values: dict[str, Any] = {
        "boot_timeout": 10.0, "canary": 0, "canary_time": 5.0, "canary_errors": 0.05,
        "surge": 0, "workers": 2, "worker_count": WorkerCount(2, 2), "max_requests": 0,
        "max_requests_jitter": 0, "max_age": 0.0, "max_rss": 0, "timeout": 30,
        "graceful_timeout": 30,
    }
    assert options.keys() <= values.keys()
    return SimpleNamespace(**{**values, **options})


class FakeArbiter:
    """What the keeper, a reload and the commands see of the real one."""

    def __init__(self, clock: Clock, workers: int = 2, **options: Any) -> None:
        self.clock = clock
        self.log = FakeLog()
        self.generation = 1
        self.num_workers = workers
        self.operator_workers: int | None = None
        self.stopping = self.lingering = False
        self.app = FakeApp()
        self.changes: Any = SimpleNamespace(reload=None)
        self.cfg = make_cfg(workers=workers, **options)
        self.fresh_cfg: Any = self.cfg
        self.LISTENERS: list[Any] = [FakeListener("http")]
        self.extra_listeners: dict[str, Any] = {}
        self.retiring: dict[int, Any] = {}
        self.runtime = SimpleNamespace()
        self.scoreboard = SimpleNamespace(count_fleet=lambda counter: self.counted.append(counter))
        self.templates = Mock()
        self.templates.settle.return_value = False  # no process is kept after its probe
        self.counted: list[Any] = []
        self.workers: list[Any] = []
        self.retired: list[str] = []
        self.adopted: Any = None
        self.probe = FakeProbe()
        self.binds_error: Exception | None = None
        self.extras_error: Exception | None = None
        self.spawn_error: Exception | None = None
        self.signals: list[tuple[Any, Any]] = []
        self._pids = iter(range(5001, 9999))

    # -- what is asked of it -----------------------------------------------------------------

    def live_workers(self) -> list[Any]:
        return list(self.workers)

    def spawn(self, slot: int, generation: int, listeners: list[Any], cfg: Any) -> Any:
        if self.spawn_error is not None:
            raise self.spawn_error
        worker = SimpleNamespace(
            slot=slot, generation=generation, name=f"{slot}.{generation}", pid=next(self._pids),
            listeners=listeners, cfg=cfg, ready=False, spawned=self.clock.now, due=0,
            failure=None, kill_at=0.0, under_way="", stack_logged=False, aborted_at=0.0,
            suspended=False, sent=[],
            row=SimpleNamespace(
                generation=generation, requests=0.0, errors=0.0, lag=0.0,
                heartbeat=self.clock.now, state=State.STARTING, blocks=0.0),
        )
        worker.channel = SimpleNamespace(send=lambda **message: worker.sent.append(message))
        self.workers.append(worker)
        return worker

    def retire(self, worker: Any, sig: int = 15) -> None:
        self.workers.remove(worker)
        self.retired.append(worker.name)

    def start_probe(self) -> FakeProbe:
        return self.probe

    def read_config(self) -> Any:
        if isinstance(self.fresh_cfg, Exception):
            raise self.fresh_cfg
        self.app.word = "new"
        return self.fresh_cfg

    def app_binds(self, declared: Any) -> Any:
        if self.binds_error is not None:
            raise self.binds_error
        return declared

    def open_binds(self, binds: Any, cfg: Any, have: Any) -> tuple[list[Any], list[Any]]:
        opened = [FakeListener(name) for name in binds if name != "http"]
        return [*self.LISTENERS, *opened], opened

    def open_extras(self, cfg: Any, held: dict[str, Any]) -> dict[str, Any]:
        if self.extras_error is not None:
            raise self.extras_error
        return dict(held)

    def wanted_workers(self, cfg: Any) -> int:
        return self.operator_workers or int(cfg.workers)

    def adopt(self, reload: Any) -> None:
        self.adopted = reload
        self.generation = reload.generation
        self.app.restore(reload.app_state)

    def signal(self, sig: Any, frame: Any) -> None:
        self.signals.append(("arbiter", sig))

    def kill_worker(self, pid: int, sig: Any) -> None:
        self.signals.append((pid, sig))

    def scale(self, count: int) -> None:
        self.operator_workers = self.num_workers = count

    # -- what the test makes happen ----------------------------------------------------------

    def ready(self, only: Callable[[Any], bool] = lambda worker: True) -> list[Any]:
        """Let the workers come up; returns those that are ready now."""
        for worker in self.workers:
            if only(worker):
                worker.ready = True
                worker.row.state = State.SERVING
        return [worker for worker in self.workers if worker.ready]

    def names(self) -> list[str]:
        return sorted(worker.name for worker in self.workers)
