from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from apihour.errors import ConfigurationError
from apihour.ipc.daemons import has_arbiter, read_instance, scoreboards
from apihour.ipc.made_again import make_runtime
from apihour.ipc.runtime import Runtime, base_directory
from apihour.ipc.scoreboard import Scoreboard

UID, GID = os.getuid(), os.getgid()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(tmp_path))
    return tmp_path / f"apihour-{UID}"


def test_directory_is_private(base: Path) -> None:
    runtime = Runtime.create(UID, GID, os.getpid())
    assert runtime.path.parent == base == base_directory(UID)
    assert runtime.path.stat().st_mode & 0o777 == 0o700
    assert base.stat().st_mode & 0o777 == 0o700


def test_directories_of_the_dead_are_swept_and_those_of_the_living_kept(base: Path) -> None:
    alive = Runtime.create(UID, GID, 1)
    dead = Runtime.create(UID, GID, os.getpid())
    dead.write_instance({"pid": os.getpid()})
    dead.hold(-1)  # as when its last process has ended; that of its pid lives
    unlocked = base / "7"
    unlocked.mkdir()
    again = Runtime.create(UID, GID, 1)
    assert not dead.path.exists() and not unlocked.exists()
    assert alive.path.exists() and again.path != alive.path
    assert {one.path for one in Runtime.instances(base)} == {alive.path, again.path}


def test_one_that_is_just_being_made_is_not_swept(base: Path) -> None:
    Runtime.create(UID, GID, 1)
    fresh, left = base / ".new-fresh", base / ".new-left"
    for path in (fresh, left):
        path.mkdir(mode=0o700)
    os.utime(left, (0, 0))
    Runtime.create(UID, GID, 2)
    assert fresh.exists() and not left.exists()
    assert fresh not in {one.path for one in Runtime.instances(base)}


def test_a_second_daemon_of_the_same_pid_has_its_own(base: Path) -> None:
    """Two containers that share a memory file system: each arbiter is PID 1."""
    made = [Runtime.create(UID, GID, 1) for _ in range(3)]
    assert len({one.path for one in made}) == 3
    assert all(one.path.is_dir() and one.is_intact() for one in made)
    assert all(one.path.name.partition("-")[0] == "1" for one in made)


def test_it_is_in_use_while_an_arbiter_holds_its_scoreboard(base: Path) -> None:
    runtime = Runtime.create(UID, GID, 1)
    assert not has_arbiter(runtime)
    board = Scoreboard.create(str(runtime.scoreboard(1)))
    assert has_arbiter(runtime)
    board.let_go()
    assert not has_arbiter(runtime)


def test_it_is_made_again_at_its_place(base: Path) -> None:
    runtime = Runtime.create(UID, GID, 1)
    path = runtime.path
    shutil.rmtree(base)
    assert not runtime.is_intact()
    assert make_runtime(runtime, (UID, GID))
    assert runtime.path == path and runtime.is_intact()
    assert path.stat().st_mode & 0o777 == 0o700

    (path / "kept").touch()
    runtime.lock.unlink()
    assert not runtime.is_intact()
    assert not make_runtime(runtime, (UID, GID)), "only the lock was gone"
    assert runtime.is_intact() and (path / "kept").exists()


def test_another_daemon_keeps_the_place_that_it_has_taken(base: Path) -> None:
    runtime = Runtime.create(UID, GID, 1)
    shutil.rmtree(runtime.path)
    other = Runtime.create(UID, GID, 1)
    assert other.path == runtime.path
    with pytest.raises(BlockingIOError, match="another daemon"):
        make_runtime(runtime, (UID, GID))
    assert other.is_intact()


def test_what_cannot_be_swept_is_one_line_with_its_path(base: Path) -> None:
    Runtime.create(UID, GID, 1).remove()
    left = base / "7"
    left.mkdir()
    (left / "lock").symlink_to("lock")
    with pytest.raises(ConfigurationError) as refused:
        Runtime.create(UID, GID, 2)
    assert str(refused.value) == (
        f"runtime directory {str(base)!r}: {str(left / 'lock')!r}: Too many levels of symbolic "
        "links; expected nothing in it that no daemon has made")


def test_instance_facts(base: Path) -> None:
    runtime = Runtime.create(UID, GID, os.getpid())
    assert read_instance(runtime) == {}
    runtime.write_instance({"pid": os.getpid(), "target": "app:Container"})
    assert read_instance(runtime)["target"] == "app:Container"
    assert runtime.instance_file.stat().st_mode & 0o777 == 0o600
    runtime.instance_file.write_text("{")
    assert read_instance(runtime) == {}


def test_scoreboards_by_arbiter(base: Path) -> None:
    runtime = Runtime.create(UID, GID, os.getpid())
    for number, pid in enumerate((300, 20)):
        runtime.scoreboard(pid).touch()
        os.utime(runtime.scoreboard(pid), (number, number))
    (runtime.path / "scoreboard.tmp").touch()
    assert [pid for pid, _ in scoreboards(runtime)] == [300, 20]
    runtime.remove()
    assert not runtime.path.exists()
