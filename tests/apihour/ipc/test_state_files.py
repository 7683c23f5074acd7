"""Files that processes share: replaced whole, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from apihour.ipc.daemons import read_instance
from apihour.ipc.runtime import Runtime
from apihour.ipc.state_files import replace_json


def full(*given: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_private_and_another_one_each_time(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    replace_json(path, [1])
    with path.open() as before:
        replace_json(path, [2])
        assert json.load(before) == [1]
    assert json.loads(path.read_text()) == [2]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_way_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / f".facts.json.{os.getpid()}").symlink_to(other)
    (tmp_path / "facts.json").symlink_to(other)
    replace_json(tmp_path / "facts.json", [1])
    assert other.read_text() == "mine" and not (tmp_path / "facts.json").is_symlink()


def test_a_full_disk_leaves_what_was_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(tmp_path)
    runtime.write_instance({"pid": 1})
    monkeypatch.setattr("apihour.ipc.state_files.json.dump", full)
    with pytest.raises(OSError, match="No space"):
        runtime.write_instance({"pid": 2})
    assert read_instance(runtime) == {"pid": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["instance.json"]
