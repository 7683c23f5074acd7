"""What the death of a worker means: another in its place, or the end of the start or a reload."""

from __future__ import annotations

import signal
from typing import Any
from unittest.mock import Mock

import pytest

from apihour.arbiter import losses
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.losses import Losses, describe
from apihour.ipc.scoreboard import Figure
from tests.apihour.fake_crew import Clock, FakeCrew

KILLED, FAILED = int(signal.SIGKILL), 3 << 8


class House:
    """Two workers; the first is about to die."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.crew = FakeCrew(Clock())
        monkeypatch.setattr(losses, "time", self.crew.clock)
        self.books: Any = self.crew.books
        self.books.cfg.debug = True
        self.first, self.second = (
            self.crew.spawn(slot, 1, [], self.books.cfg) for slot in (1, 2))
        self._losses = Losses(self.books, WorkerKeeper(self.books, self.crew))

    def lose(self, status: int) -> None:
        self.crew.remove(self.first)
        self._losses.lost(self.first, status)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def test_one_that_served_is_replaced(house: House) -> None:
    house.first.ready = True
    house.lose(KILLED)
    assert house.crew.log.lines == [
        f"Worker 1.1 (pid: {house.first.pid}) ended: killed by SIGKILL; replacing it"]
    assert (house.crew.counted, house.books.boot_error) == ([Figure.RESTARTS], None)


def test_the_first_that_fails_ends_the_start(house: House) -> None:
    house.first.failure = "hello.py:3: broken", "Traceback"
    house.second.ready = True
    house.lose(FAILED)
    assert house.books.boot_error == ("hello.py:3: broken", "Traceback")
    assert house.crew.counted == []


def test_without_a_word_its_end_is_the_reason(house: House) -> None:
    house.lose(FAILED)
    assert house.books.boot_error == (
        "worker 1.1 ended before it was ready (exit status 3)", "")


def test_one_that_was_killed_while_another_serves_is_no_failure_of_the_start(house: House) -> None:
    house.second.ready = True
    house.lose(KILLED)
    assert house.books.boot_error is None
    assert "could not start: worker 1.1 ended before it was ready (killed by SIGKILL); next try " \
        "in 0.1 s" in house.crew.log.lines[0]


def test_once_all_have_served_it_is_tried_again(house: House) -> None:
    house.books.came_up = True
    house.first.failure = "start() failed", "Traceback"
    house.lose(FAILED)
    assert house.books.boot_error is None
    assert house.crew.log.lines[1:] == ["Traceback"]


@pytest.mark.parametrize("ready", [False, True])
def test_a_new_one_is_the_reloads(house: House, ready: bool) -> None:
    house.books.reload, house.books.came_up = Mock(generation=1), True
    house.first.ready = ready
    house.lose(KILLED)
    ((worker, message, _), _), = house.books.reload.on_worker_lost.call_args_list
    assert worker is house.first and "killed by SIGKILL" in message
    assert house.crew.counted == ([Figure.RESTARTS] if ready else [])


def test_ends_have_names() -> None:
    assert [describe(status) for status in (0, 3 << 8, 9, 45)] == [
        "exit status 0", "exit status 3", "killed by SIGKILL", "killed by signal 45"]
