"""What operators have said of servers: one file, which only the arbiter writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apihour.ipc.state_files import StateFile
from apihour.limits import live
from apihour.limits.bind_options import BindOptions
from apihour.limits.live import LiveBook, read_live


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.json"


@pytest.fixture
def book(path: Path) -> LiveBook:
    return LiveBook(path, (os.geteuid(), os.getegid()))


def test_each_order_changes_what_it_names(path: Path, book: LiveBook) -> None:
    assert read_live(path) == {}
    book.limit("a", {"idle": "9", "rate": "5"}, "one")
    book.limit("b", {"limit": "3"}, "one")
    book.suspend("a", True, "two")
    book.limit("a", {"idle": "10"}, "three")
    found = read_live(path)
    assert found["a"].options == BindOptions(idle=10.0, rate=(5, 1.0))
    assert (found["a"].suspended, found["a"].by) == (True, "three")
    assert found["b"].options == BindOptions(limit=3) and not found["b"].suspended
    assert path.stat().st_mode & 0o777 == 0o600
    book.reset("a", ["idle"], "one")
    assert read_live(path)["a"].options == BindOptions(rate=(5, 1.0))
    book.reset("a", [], "one")
    assert read_live(path)["a"].suspended  # that was not named
    book.suspend("a", False, "one")
    book.reset("b", [], "one")
    assert read_live(path) == {}


def test_what_is_wrong_changes_nothing(
    path: Path, book: LiveBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.limit("a", {"idle": "9"}, "one")
    before = path.read_bytes()
    for wrong in ({"idle": "x"}, {"idel": "3"}):
        with pytest.raises(ValueError):
            book.limit("a", wrong, "one")
    with pytest.raises(ValueError):
        book.reset("a", ["idel"], "one")
    monkeypatch.setattr(live, "_MOST", 1)
    with pytest.raises(ValueError, match="fewer than 1 servers"):
        book.suspend("b", True, "one")
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 5}', '{"a": {"suspended": true}}',
    '{"a": {"suspended": true, "options": {"idle": "x"}, "by": "", "since": 0}}'])
def test_what_is_damaged_is_told_and_left_alone(path: Path, book: LiveBook, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}: .*; expected what the arbiter writes"):
        read_live(path)
    with pytest.raises(ValueError, match=str(path)):
        book.suspend("a", True, "one")
    assert path.read_text() == text


def test_whether_it_is_another_one(path: Path, book: LiveBook) -> None:
    file = StateFile(path)
    assert not file.has_changed()
    book.suspend("a", True, "one")
    assert file.has_changed() and not file.has_changed()
    book.suspend("a", False, "one")
    assert file.has_changed()
    path.unlink()
    assert file.has_changed() and not file.has_changed()
