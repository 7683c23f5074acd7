"""Where the daemons of one user have their runtime directories."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from apihour.errors import ConfigurationError
from apihour.ipc import bases
from apihour.ipc.bases import base_directory, is_private
from apihour.ipc.runtime import make_base
from apihour.ipc.taken_bases import private_bases, unusual

UID, GID = os.getuid(), os.getgid()


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(tmp_path))
    return tmp_path


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


def no_temporary_directory() -> str:
    raise FileNotFoundError("No usable temporary directory found")


def test_no_temporary_directory_is_looked_for_without_need(
    where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", no_temporary_directory)
    assert base_directory(UID).parent == where
    monkeypatch.delenv("APIHOUR_RUNTIME_DIR")
    if os.access("/dev/shm", os.W_OK):
        assert base_directory(UID).parent == Path("/dev/shm")
    monkeypatch.setattr(bases, "_MEMORY", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"neither /nowhere nor .*APIHOUR_RUNTIME_DIR"):
        base_directory(UID)


def strange(kind: str, path: Path) -> None:
    """What somebody else may have put where our directory is to be."""
    if kind == "link":
        (path.parent / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(path.parent / "elsewhere")
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o755 if kind == "mode" else 0o700)
        if kind == "owner":
            if UID != 0:
                pytest.skip("only root gives a directory away")
            os.chown(path, UID + 1, GID)


@pytest.mark.parametrize("kind", ["link", "file", "mode", "owner"])
def test_what_a_stranger_made_is_passed_by(kind: str, where: Path) -> None:
    usual = base_directory(UID)
    strange(kind, usual)
    made = make_base(UID, GID)
    assert made != usual and made.name.startswith(f"{usual.name}-")
    assert is_private(made, UID)
    assert make_base(UID, GID) == made, "the next daemon uses it too"
    assert private_bases(UID) == [made]
    assert str(usual) in unusual(made, UID) and str(made) in unusual(made, UID)


def test_the_usual_one(where: Path) -> None:
    made = make_base(UID, GID)
    assert made == base_directory(UID) == where / f"apihour-{UID}"
    assert private_bases(UID) == [made]
    assert unusual(made, UID) == ""


def test_only_what_is_named_and_owned_right_is_anybodys(where: Path) -> None:
    mine = make_base(UID, GID)
    for name in (f"apihour-{UID + 1}", "apihour-x", f"apihour-{UID}-a-b", "apihour-test-1"):
        (where / name).mkdir(mode=0o700)  # ours, but for its name
    assert private_bases() == [mine]


def test_a_place_that_cannot_be_made_is_named(where: Path) -> None:
    where.rmdir()
    with pytest.raises(ConfigurationError, match="APIHOUR_RUNTIME_DIR"):
        make_base(UID, GID)
