from __future__ import annotations

import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from apihour.ipc.holds import is_locked
from apihour.ipc.made_again import follow_board, make_board
from apihour.ipc.row_record import row_record
from apihour.ipc.scoreboard import ROWS, Figure, Scoreboard, ScoreboardFullError, WorkerState


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "scoreboard.1")


def test_file_is_private_and_new(path: str, tmp_path: Path) -> None:
    before = Scoreboard.create(path)
    before.claim(1, 1)
    before.close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    os.unlink(path)
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", path)  # is replaced, and not followed
    assert not list(Scoreboard.create(path).active())
    assert (tmp_path / "elsewhere").stat().st_size == 0
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".new")] == []


def test_its_lock_is_the_arbiters_alone(path: str) -> None:
    board = Scoreboard.create(path)
    row = board.claim(1, 1)
    pid = os.fork()
    if pid == 0:
        board.let_go()
        row.connections = 7
        signal.pause()
    try:
        deadline = time.monotonic() + 30
        while not row.connections and time.monotonic() < deadline:
            time.sleep(0.001)
        assert is_locked(path)
        board.let_go()
        assert not is_locked(path), "the child holds no lock, though it has the file mapped"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_its_memory_is_reserved(path: str) -> None:
    Scoreboard.create(path)
    facts = os.stat(path)
    assert facts.st_blocks * 512 >= facts.st_size > 0


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot reserve memory of a file")
def test_no_room_is_an_error_and_leaves_nothing(path: str, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            Scoreboard.create(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanished_is_made_again_and_followed(path: str) -> None:
    arbiter = Scoreboard.create(path)
    row = arbiter.claim(2, 3)
    row.pid = 42
    arbiter.set_figure(Figure.WANTED, 1)
    worker = Scoreboard.open(path)  # as the worker inherits it
    own = worker.rows[row.index]
    own.state, own.connections = WorkerState.SERVING, 5
    os.unlink(path)
    assert not arbiter.is_at(path)
    make_board(arbiter, path, (os.getuid(), os.getgid()))
    own.connections = 6  # before it has heard of it
    follow_board(worker, path, own)
    own.accepted = 100
    assert arbiter.is_at(path) and is_locked(path)
    (seen,) = Scoreboard.open(path).active()
    assert (seen.pid, seen.connections, seen.accepted, seen.worker) == (42, 6, 100, "2.3")
    assert Scoreboard.open(path).figure(Figure.WANTED) == 1
    assert row.accepted == 100, "the arbiter sees it too"


def test_what_one_process_writes_another_reads(path: str) -> None:
    writer, reader = Scoreboard.create(path), Scoreboard.open(path)
    row = writer.claim(3, 7)
    row.pid, row.connections, row.accepted, row.lag = 42, 5, 100, 0.25
    row.state = WorkerState.SERVING
    (seen,) = list(reader.active())
    record = row_record(seen)
    assert (record.worker, record.pid, record.state) == ("3.7", 42, "serving")
    assert (record.connections, record.accepted, record.lag) == (5, 100, 0.25)
    assert 0 <= record.age < 5 and 0 <= record.silent < 5


def test_silence_grows_and_time_left_ends_at_zero(path: str) -> None:
    row = Scoreboard.create(path).claim(1, 1)
    row.heartbeat = time.monotonic() - 4.0
    row.deadline = time.monotonic() - 1.0
    assert 4.0 <= row_record(row).silent < 5.0
    assert row_record(row).time_left == 0.0
    row.deadline = time.monotonic() + 10
    assert 9.0 < row_record(row).time_left <= 10.0


def test_rows_are_ordered_cleared_and_limited(path: str) -> None:
    board = Scoreboard.create(path)
    rows = [board.claim(slot, 1) for slot in (2, 1, 3)]
    assert [row.worker for row in board.active()] == ["1.1", "2.1", "3.1"]
    rows[0].clear()
    assert [row.worker for row in board.active()] == ["1.1", "3.1"]
    for slot in range(ROWS - 2):
        board.claim(slot, 2)
    with pytest.raises(ScoreboardFullError, match=str(ROWS)):
        board.claim(1, 9)


def test_counters_of_the_daemon(path: str) -> None:
    board = Scoreboard.create(path)
    board.set_figure(Figure.WANTED, 4)
    board.count_figure(Figure.RELOADS)
    board.count_figure(Figure.RELOADS)
    assert board.figure(Figure.WANTED) == 4
    assert board.figure(Figure.RELOADS) == 2
    assert not list(board.active())


def test_a_file_of_another_size_is_refused(path: str) -> None:
    Path(path).write_bytes(b"x" * 10)
    with pytest.raises(ValueError):
        Scoreboard.open(path)
