"""How others find a daemon: what stands in the way is one line, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from apihour.arbiter.presence import Presence
from apihour.errors import ConfigurationError
from apihour.ipc.runtime import Runtime
from tests.apihour.fake_crew import Clock, FakeCrew

UID, GID = os.getuid(), os.getgid()


@pytest.fixture
def presence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Presence:
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", str(tmp_path))
    books: Any = FakeCrew(Clock()).books
    del books.runtime, books.scoreboard  # as before a start
    books.pid, books.cfg.uid, books.cfg.gid = os.getpid(), UID, GID
    return Presence(books, lambda request: None)


def test_a_directory_that_cannot_be_made_is_one_line(
    presence: Presence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path / "x"))

    monkeypatch.setattr("apihour.ipc.runtime.sweep", broken)
    with pytest.raises(ConfigurationError, match=r"^runtime directory '.*Input/output error"):
        presence.begin()
    presence.undo()


def test_one_that_was_handed_over_and_is_gone_is_named(presence: Presence, tmp_path: Path) -> None:
    presence.books.taking_over, presence.books.runtime = True, Runtime(str(tmp_path / "gone"))
    with pytest.raises(ConfigurationError, match=f"^runtime directory '{tmp_path}/gone': No such"):
        presence.begin()
    presence.undo()
