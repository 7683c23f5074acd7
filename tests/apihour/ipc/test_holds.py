"""Locks that say who lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from apihour.ipc.holds import is_locked, is_same, join, lock_alone, make_locked

OWNER = (os.getuid(), os.getgid())


def test_a_lock_is_seen_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    fd = make_locked(path, OWNER, shared=False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_locked(path) and is_locked(path)
    os.close(fd)
    assert path.exists() and not is_locked(path)


def test_a_fork_holds_it_on(tmp_path: Path) -> None:
    fd = make_locked(tmp_path / "lock", OWNER, shared=True)
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.close(fd)
    with pytest.raises(BlockingIOError):
        lock_alone(tmp_path / "lock")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(lock_alone(tmp_path / "lock"))


def test_who_joins_holds_it_too(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = make_locked(path, OWNER, shared=True)
    second = join(path)
    os.close(first)
    with pytest.raises(BlockingIOError):
        lock_alone(path)
    os.close(second)
    alone = lock_alone(path)
    with pytest.raises(BlockingIOError):
        join(path)
    os.close(alone)


def test_only_a_new_plain_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    os.mkfifo(path)
    assert not is_locked(path)  # and is not waited for
    with pytest.raises(FileNotFoundError):
        lock_alone(path)
    with pytest.raises(FileExistsError):
        make_locked(path, OWNER, shared=True)
    path.unlink()
    (tmp_path / "elsewhere").touch()
    path.symlink_to(tmp_path / "elsewhere")
    for use in (join, lock_alone):
        with pytest.raises(OSError, match="symbolic"):
            use(path)


def test_the_lock_of_a_file_that_was_replaced_is_not_that_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    fd = make_locked(path, OWNER, shared=False)
    assert is_same(fd, path)
    path.unlink()
    assert not is_same(fd, path)
    path.touch()
    assert not is_same(fd, path)
    os.close(fd)
