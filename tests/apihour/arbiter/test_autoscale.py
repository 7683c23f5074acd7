"""How many workers the load asks for."""

from __future__ import annotations

import os
from unittest.mock import Mock

import pytest

from apihour.arbiter import autoscale
from apihour.arbiter.autoscale import Autoscaler, LoadWatch, WorkerLoad, cpu_seconds
from apihour.config.values import WorkerCount
from tests.apihour.fake_crew import Clock, FakeCrew


class Fleet:
    """Workers with a steady load, looked at once a second."""

    def __init__(self, workers: int, low: int = 1, high: int = 8) -> None:
        self.scaler = Autoscaler()
        self.count = workers
        self.bounds = (low, high)
        self.now = 100.0
        self.cpu = {pid: 0.0 for pid in range(1, 20)}
        self.history: list[int] = []

    def run(self, seconds: int, total_cpu: float, lag: float = 0.0) -> list[int]:
        """That many seconds in which all workers together use `total_cpu` CPUs."""
        self.history = []
        for _ in range(seconds):
            for pid in range(1, self.count + 1):
                self.cpu[pid] += total_cpu / self.count
            self.now += 1.0
            loads = [WorkerLoad(pid, self.cpu[pid], lag) for pid in range(1, self.count + 1)]
            self.count = self.scaler.advise(self.now, loads, self.count, *self.bounds)
            self.history.append(self.count)
        return self.history


def test_the_first_look_only_keeps_the_bounds() -> None:
    assert Autoscaler().advise(1.0, [WorkerLoad(1, 50.0, 0.0)], 1, 2, 8) == 2
    assert Autoscaler().advise(1.0, [WorkerLoad(1, 50.0, 0.0)], 9, 2, 8) == 8
    assert Autoscaler().advise(1.0, [], 3, 2, 8) == 3


def test_busy_workers_get_another_one_at_a_time() -> None:
    fleet = Fleet(2)
    assert fleet.run(2, total_cpu=2.0) == [2, 2]  # not for a moment's load
    assert max(fleet.run(2, total_cpu=2.0)) == 3
    for before, after in zip(fleet.run(30, 6.0), fleet.history[1:], strict=False):
        assert after - before <= 1


def test_it_stops_where_there_is_enough() -> None:
    assert Fleet(1).run(60, total_cpu=2.0)[-1] == 3  # two thirds of a CPU each


def test_never_past_the_bounds() -> None:
    fleet = Fleet(1, low=1, high=3)
    assert max(fleet.run(60, total_cpu=30.0)) == 3
    assert min(fleet.run(200, total_cpu=0.0)) == 1


def test_down_slowly_when_one_fewer_leaves_room() -> None:
    fleet = Fleet(4)
    assert set(fleet.run(19, total_cpu=0.2)) == {4}
    assert min(fleet.run(10, total_cpu=0.2)) == 3


def test_not_down_when_the_rest_would_be_busy() -> None:
    assert set(Fleet(2).run(60, total_cpu=0.8)) == {2}


def test_loops_that_lag_count_as_busy() -> None:
    assert Fleet(2).run(10, total_cpu=0.2, lag=0.3)[-1] > 2


def test_loops_that_lag_at_most_looks_count_as_busy() -> None:
    fleet = Fleet(2)
    for lag in (0.3, 0.02, 0.25, 0.4, 0.05, 0.3):  # the CPU itself was given to others
        fleet.run(1, total_cpu=0.8, lag=lag)
    assert fleet.count > 2


def test_a_loop_that_was_late_once_does_not() -> None:
    fleet = Fleet(2)
    for lag in (0.0, 0.3, 0.0, 0.0, 0.3, 0.0):
        fleet.run(1, total_cpu=0.8, lag=lag)
    assert fleet.count == 2


def test_a_burst_between_does_not_add_up() -> None:
    fleet = Fleet(2)
    fleet.run(1, 0.1)
    for _ in range(10):
        fleet.run(1, total_cpu=2.0)
        fleet.run(1, total_cpu=0.6)
    assert fleet.count == 2


def test_a_replaced_worker_counts_from_its_next_look() -> None:
    scaler = Autoscaler()
    scaler.advise(1.0, [WorkerLoad(1, 500.0, 0.0)], 1, 1, 8)
    for second in range(2, 10):
        # A new pid each second: its total since start is no load of this second.
        assert scaler.advise(float(second), [WorkerLoad(second, 500.0, 0.0)], 1, 1, 8) == 1


class Watch:
    """A load watch over one worker of one or two."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.cpu = Clock(), 0.0
        monkeypatch.setattr(autoscale, "time", self.clock)
        monkeypatch.setattr(autoscale, "cpu_seconds", lambda pid: self.cpu)
        crew = FakeCrew(self.clock, workers=1, worker_count=WorkerCount(1, 2))
        self.worker = crew.spawn(1, 1, [], crew.books.cfg)
        crew.ready()
        self.books = crew.books
        self._watch = LoadWatch(crew.books)

    def second(self, cpu: float = 0.0, silent: float = 0.0) -> None:
        self.cpu += cpu
        self.clock.now += 1.0
        self.worker.row.heartbeat = self.clock.now - silent
        self._watch.advance()


def test_the_load_sets_the_number_within_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    for _ in range(5):
        watch.second(cpu=1.0)
    assert watch.books.num_workers == 2
    watch.books.scale(1)  # the operator's word counts over the load
    for _ in range(5):
        watch.second(cpu=1.0)
    assert watch.books.num_workers == 1


@pytest.mark.parametrize(("silent", "workers"), [(0.0, 1), (0.3, 1), (0.6, 2)])
def test_a_loop_that_is_late_now_counts_before_its_next_beat(
    monkeypatch: pytest.MonkeyPatch, silent: float, workers: int
) -> None:
    watch = Watch(monkeypatch)
    for _ in range(5):
        watch.second(silent=silent)
    assert watch.books.num_workers == workers


def test_a_reload_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    watch.books.reload = Mock()
    for _ in range(5):
        watch.second(cpu=1.0)
    assert watch.books.num_workers == 1


def test_numbers_from_proc() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**22 + 1) == 0.0
