from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from apihour.scoreboard import ROWS, Fleet, Scoreboard, State


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "scoreboard.1")


def test_file_is_private_and_new(path: str) -> None:
    Scoreboard.create(path).close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Scoreboard.create(path)


def test_what_one_process_writes_another_reads(path: str) -> None:
    writer, reader = Scoreboard.create(path), Scoreboard.open(path)
    row = writer.claim(3, 7)
    row.pid, row.connections, row.accepted, row.lag = 42, 5, 100, 0.25
    row.state = State.SERVING
    (seen,) = list(reader.active())
    record = seen.record()
    assert (record.worker, record.pid, record.state) == ("3.7", 42, "serving")
    assert (record.connections, record.accepted, record.lag) == (5, 100, 0.25)
    assert 0 <= record.age < 5 and 0 <= record.silent < 5


def test_silence_grows_and_time_left_ends_at_zero(path: str) -> None:
    row = Scoreboard.create(path).claim(1, 1)
    row.heartbeat = time.monotonic() - 4.0
    row.deadline = time.monotonic() - 1.0
    assert 4.0 <= row.record().silent < 5.0
    assert row.record().time_left == 0.0
    row.deadline = time.monotonic() + 10
    assert 9.0 < row.record().time_left <= 10.0


def test_rows_are_ordered_cleared_and_limited(path: str) -> None:
    board = Scoreboard.create(path)
    rows = [board.claim(slot, 1) for slot in (2, 1, 3)]
    assert [row.worker for row in board.active()] == ["1.1", "2.1", "3.1"]
    rows[0].clear()
    assert [row.worker for row in board.active()] == ["1.1", "3.1"]
    for slot in range(ROWS - 2):
        board.claim(slot, 2)
    with pytest.raises(RuntimeError, match=str(ROWS)):
        board.claim(1, 9)


def test_counters_of_the_daemon(path: str) -> None:
    board = Scoreboard.create(path)
    board.set_fleet(Fleet.WANTED, 4)
    board.count_fleet(Fleet.RELOADS)
    board.count_fleet(Fleet.RELOADS)
    assert board.fleet(Fleet.WANTED) == 4
    assert board.fleet(Fleet.RELOADS) == 2
    assert not list(board.active())


def test_a_file_of_another_size_is_refused(path: str) -> None:
    Path(path).write_bytes(b"x" * 10)
    with pytest.raises(ValueError):
        Scoreboard.open(path)
