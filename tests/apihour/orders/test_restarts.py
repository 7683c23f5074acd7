"""Restarts on request: gated, drained or killed, and told to everybody who asked."""

from __future__ import annotations

import signal
from typing import Any
from unittest.mock import Mock

import pytest

from apihour.orders import restarts
from apihour.orders.restarts import Restarts
from tests.apihour.fake_crew import Clock, FakeCrew


class Asked:
    """A request, and its answer once there is one."""

    command, role = "restart", "operator"

    def __init__(self) -> None:
        self.rows: Any = None
        self.error = ""

    def answer(self, rows: Any) -> None:
        assert self.rows is None and not self.error
        self.rows = rows

    def fail(self, error: str, kind: str = "failed", detail: str = "") -> None:
        assert self.rows is None and not self.error
        self.error = error


class House:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.crew = FakeCrew(clock)
        self.old, _ = (self.crew.spawn(slot, 1, [], self.crew.books.cfg) for slot in (1, 2))
        self.crew.ready()
        self.restarts = Restarts(self.crew.books, self.replace, self.crew)

    def replace(self, worker: Any, reason: str) -> Any:
        try:
            return self.crew.spawn(worker.slot, 1, [], self.crew.books.cfg)
        except OSError:
            return None

    def begin(self, within: float | None = 10.0) -> Asked:
        asked = Asked()
        self.restarts.begin(self.old, within, asked)  # type: ignore[arg-type]
        self.restarts.advance()
        return asked

    def retire_old(self) -> Any:
        """What the keeper does once the new worker is ready; returns that."""
        fresh = self.crew.workers[-1]
        self.crew.ready()
        self.crew.retire(self.old)
        self.crew.books.retiring[self.old.pid] = self.old
        self.restarts.advance()
        return fresh

    def gone(self) -> None:
        self.crew.books.retiring.clear()
        self.restarts.advance()

    def tick(self, seconds: float) -> None:
        self.clock.now += seconds
        for worker in self.crew.workers:
            worker.row.heartbeat = self.clock.now
        self.restarts.advance()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    clock = Clock()
    monkeypatch.setattr(restarts, "time", clock)
    monkeypatch.setattr(restarts, "dump_stack", lambda runtime, pid: "the stack")
    return House(clock)


def test_it_is_answered_when_the_old_one_is_gone(house: House) -> None:
    asked = house.begin()
    house.tick(1.0)
    assert asked.rows is None and house.old.kill_at == 0.0
    fresh = house.retire_old()
    assert house.old.kill_at == house.clock.now + 10.0
    house.tick(2.0)
    assert asked.rows is None
    house.gone()
    assert asked.rows == [{
        "worker": "1.1", "pid": house.old.pid, "replaced_by": "1.1", "new_pid": fresh.pid,
        "outcome": "drained", "seconds": 3.0}]
    assert house.crew.signals == []


def test_one_past_its_deadline_was_killed(house: House) -> None:
    asked = house.begin(5.0)
    house.retire_old()
    house.tick(5.5)
    house.gone()
    assert asked.rows[0]["outcome"] == "killed"


def test_a_blocked_one_is_killed_with_its_stack_once_another_serves(house: House) -> None:
    asked = house.begin()
    house.old.row.heartbeat = house.clock.now - 60
    house.restarts.advance()
    assert house.crew.signals == []
    house.retire_old()
    assert house.crew.signals == [(house.old.pid, signal.SIGKILL)]
    assert house.crew.log.lines[-1].endswith("the stack")
    house.tick(0.1)
    house.gone()
    assert asked.rows[0]["outcome"] == "killed" and len(house.crew.signals) == 1


def test_one_that_blocks_while_it_drains_has_its_time(house: House) -> None:
    house.begin(60.0)
    house.tick(1.0)
    house.retire_old()
    house.clock.now += 30.0
    house.restarts.advance()
    assert house.crew.signals == []


def test_two_operators_get_one_restart_and_both_its_outcome(house: House) -> None:
    first, second = house.begin(), house.begin()
    assert len(house.crew.workers) == 3
    house.retire_old()
    house.gone()
    assert first.rows == second.rows and first.rows[0]["outcome"] == "drained"


def test_a_replacement_that_does_not_come_up_leaves_the_old_one(house: House) -> None:
    asked = house.begin()
    fresh = house.crew.workers[-1]
    house.crew.remove(fresh)
    fresh.failure = ("hello.py:3: it is broken", "Traceback")
    house.restarts.advance()
    assert "hello.py:3: it is broken" in asked.error and "serves on" in asked.error
    assert house.old in house.crew.workers and house.crew.signals == []


def test_no_process_and_no_restart_during_a_reload(house: House) -> None:
    house.crew.spawn_error = OSError("no process")
    assert "no new process can be started" in house.begin().error
    house.crew.books.reload = Mock()
    assert "a reload is under way" in house.begin().error


def test_a_reload_that_comes_meanwhile_replaces_it_too(house: House) -> None:
    asked = house.begin()
    for worker in list(house.crew.workers):
        house.crew.retire(worker)
        house.crew.books.retiring[worker.pid] = worker
    new = house.crew.spawn(1, 2, [], house.crew.books.cfg)
    house.crew.ready()
    house.restarts.advance()
    assert asked.rows is None
    house.gone()
    assert (asked.rows[0]["replaced_by"], asked.rows[0]["new_pid"]) == ("1.2", new.pid)


def test_waiting_has_an_end(house: House) -> None:
    asked = house.begin(5.0)
    house.tick(1000.0)
    assert "restart 1.1: nothing serves in its place after 1000 s" in asked.error
    house.tick(1.0)  # and is over


def test_whoever_ends_a_worker_is_told_what_came(house: House) -> None:
    asked = Asked()
    house.restarts.tell([house.old], [{"process": "1.1"}], asked)  # type: ignore[arg-type, list-item]
    house.restarts.advance()
    assert asked.rows is None
    house.crew.remove(house.old)
    fresh = house.crew.spawn(1, 1, [], house.crew.books.cfg)
    house.restarts.advance()
    assert asked.rows is None
    house.crew.ready()
    house.restarts.advance()
    assert asked.rows == [{"process": "1.1", "replaced_by": "1.1", "new_pid": fresh.pid}]


def test_one_too_many_is_not_replaced(house: House) -> None:
    asked = Asked()
    house.crew.books.num_workers = 0
    house.restarts.tell([house.old], [{"process": "1.1"}], asked)  # type: ignore[arg-type, list-item]
    house.crew.remove(house.old)
    house.restarts.advance()
    assert asked.rows == [{"process": "1.1", "replaced_by": "none is wanted", "new_pid": None}]
