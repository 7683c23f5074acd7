"""A worker that cannot be forked leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from apihour.arbiter.children import Children
from apihour.books.books import Books
from apihour.errors import ApihourError
from apihour.ipc.channel import Channel
from apihour.ipc.scoreboard import ROWS, Scoreboard, ScoreboardFullError, WorkerState


def spawn(board: Scoreboard) -> None:
    books = Books(Mock())
    books.scoreboard = board
    Children(books, Mock()).spawn(1, 1, [], None)


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
