"""Forking a worker, what of the arbiter's record its process gets, and what a failure leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from apihour.books import children as module
from apihour.books.books import Books
from apihour.books.children import Children
from apihour.errors import ApihourError
from apihour.ipc.channel import Channel
from apihour.ipc.scoreboard import ROWS, Scoreboard, ScoreboardFullError, WorkerState
from tests.apihour.fake_crew import Clock, FakeCrew


def spawn(board: Scoreboard) -> None:
    books = Books(Mock())
    books.scoreboard = board
    Children(books).spawn(1, 1, [], None)


def test_a_full_scoreboard_is_one_line_and_leaks_no_channel(tmp_path: Path) -> None:
    board = Scoreboard.create(str(tmp_path / "scoreboard.1"))
    for slot in range(ROWS):
        board.claim(slot, 1)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ScoreboardFullError, match=f"all {ROWS} rows"):
        spawn(board)
    assert len(os.listdir("/proc/self/fd")) == before
    assert issubclass(ScoreboardFullError, ApihourError), "what the keeper tries again after"


def test_processes_of_one_name_are_counted_for_their_ids() -> None:
    books = Books(Mock())
    assert [books.count_start(1, 2) for _ in range(3)] == [1, 2, 3]
    assert books.count_start(2, 2) == books.count_start(1, 3) == 1
    assert books.count_start(1, 2) == 4, "a worker of the generation before, replaced in a reload"
    for generation in range(4, 200):
        books.count_start(1, generation)
    assert len(books.starts) < 50, "what was long ago is forgotten"


def test_without_a_descriptor_left_its_row_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise OSError(24, "Too many open files")

    board = Scoreboard.create(str(tmp_path / "scoreboard.1"))
    monkeypatch.setattr(Channel, "pair", none)
    with pytest.raises(OSError, match="Too many"):
        spawn(board)
    assert all(row.state == WorkerState.FREE for row in board.rows)


def test_it_is_forked_here_only_when_nobody_else_has_such_a_worker(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = FakeCrew(Clock())
    crew.books.scoreboard.claim = lambda slot, generation: Mock(worker="1.1")  # type: ignore
    answers: list[Any] = [5, 0, OSError(11, "full")]

    def elsewhere(record: Any, channel: Any) -> int:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    children = Children(crew.books)
    children.fork_elsewhere = elsewhere
    here = Mock(return_value=7)
    monkeypatch.setattr(children, "_fork", here)
    assert [children.spawn(1, 1, [], crew.books.cfg).pid for _ in range(2)] == [5, 7]
    with pytest.raises(OSError, match="full"):
        children.spawn(1, 1, [], crew.books.cfg)
    assert here.call_count == 1


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
    pid = Children(crew.books)._fork(record, Mock())
    assert pid != os.getpid()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_signals_wait_from_the_fork_on(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = FakeCrew(Clock())
    record = crew.spawn(1, 1, [], crew.books.cfg)

    def become(*given: Any) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        os._exit(7 if blocked >= module.BLOCKED else 8)

    monkeypatch.setattr(module, "become_worker", become)
    pid = Children(crew.books)._fork(record, Mock())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
