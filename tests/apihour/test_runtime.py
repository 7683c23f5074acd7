from __future__ import annotations

import os
from pathlib import Path

import pytest

from apihour.errors import ConfigurationError
from apihour.runtime import Runtime, base_directory, make_private

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


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_directory_that_was_named_is_the_only_choice(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.touch()
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(path))
    with pytest.raises(ConfigurationError) as caught:
        base_directory(UID)
    assert str(caught.value) == f"APIHOUR_RUNTIME_DIR {str(path)!r}: expected a writable directory"


def test_an_empty_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", "")
    assert base_directory(UID).name == f"apihour-{UID}"


def test_a_directory_others_may_enter_is_refused(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o755)
    with pytest.raises(ConfigurationError, match="mode 0700"):
        make_private(loose, UID, GID)


def test_a_link_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(real)
    with pytest.raises(ConfigurationError):
        make_private(link, UID, GID)


def test_directories_of_the_dead_are_swept_and_those_of_the_living_kept(base: Path) -> None:
    alive = Runtime.create(UID, GID, os.getpid())
    dead = Runtime(base / "999999999")
    dead.path.mkdir()
    dead.write_instance({"pid": 999999999})
    again = Runtime.create(UID, GID, os.getpid())
    assert not dead.path.exists()
    assert alive.path.exists() and again.path != alive.path
    assert {one.path for one in Runtime.instances(base)} == {alive.path, again.path}


def test_instance_facts(base: Path) -> None:
    runtime = Runtime.create(UID, GID, os.getpid())
    assert runtime.read_instance() == {}
    runtime.write_instance({"pid": os.getpid(), "target": "app:Container"})
    assert runtime.read_instance()["target"] == "app:Container"
    assert runtime.instance_file.stat().st_mode & 0o777 == 0o600
    runtime.instance_file.write_text("{")
    assert runtime.read_instance() == {}


def test_scoreboards_by_arbiter(base: Path) -> None:
    runtime = Runtime.create(UID, GID, os.getpid())
    for number, pid in enumerate((300, 20)):
        runtime.scoreboard(pid).touch()
        os.utime(runtime.scoreboard(pid), (number, number))
    (runtime.path / "scoreboard.tmp").touch()
    assert [pid for pid, _ in runtime.scoreboards()] == [300, 20]
    runtime.remove()
    assert not runtime.path.exists()
