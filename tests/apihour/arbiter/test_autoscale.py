"""How many workers the load asks for."""

from __future__ import annotations

from apihour.arbiter.autoscale import Autoscaler, WorkerLoad


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
