"""Ways to fork a worker, and what of the arbiter's record its process gets."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from apihour.arbiter import forker as module
from apihour.arbiter.forker import FirstOf, PlainForker
from tests.apihour.fake_crew import Clock, FakeCrew


class Way:
    def __init__(self, answer: int | OSError) -> None:
        self.answer = answer
        self.asked = 0

    def fork(self, record: Any, channel: Any) -> int:
        self.asked += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


def test_the_next_way_is_tried_only_when_one_has_no_such_worker() -> None:
    template, plain = Way(0), Way(7)
    assert FirstOf([template, plain]).fork(Mock(), Mock()) == 7
    template.answer = 5
    assert FirstOf([template, plain]).fork(Mock(), Mock()) == 5
    assert (template.asked, plain.asked) == (2, 1)


def test_no_room_for_a_process_is_no_reason_to_fork_another_way() -> None:
    plain = Way(7)
    with pytest.raises(OSError, match="full"):
        FirstOf([Way(OSError(11, "full")), plain]).fork(Mock(), Mock())
    assert plain.asked == 0


def test_what_pre_fork_has_noted_is_for_the_worker_what_the_arbiter_knows_is_not() -> None:
    crew = FakeCrew(Clock())
    record = crew.spawn(1, 1, [], crew.books.cfg)
    record.my_number = 3
    assert record.marks() == {"my_number": 3}


def test_whatever_happens_in_the_child_it_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = FakeCrew(Clock())
    record = crew.spawn(1, 1, [], crew.books.cfg)
    record.row = None  # not what a worker can be made of
    crew.books.scoreboard = SimpleNamespace()  # type: ignore[assignment]
    pid = PlainForker(crew.books, lambda: None).fork(record, Mock())
    assert pid != os.getpid()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_signals_wait_from_the_fork_on(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = FakeCrew(Clock())
    record = crew.spawn(1, 1, [], crew.books.cfg)

    def become(*given: Any) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        os._exit(7 if blocked >= module.BLOCKED else 8)

    monkeypatch.setattr(module, "become_worker", become)
    pid = PlainForker(crew.books, lambda: None).fork(record, Mock())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
