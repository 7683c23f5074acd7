"""Nobody reads less of a key than he has seen."""

from __future__ import annotations

import pytest

from apihour.shared import newest
from apihour.shared.newest import Newest


def test_what_is_older_than_what_was_seen_is_told_apart() -> None:
    seen = Newest()
    assert seen.see("a", 5)
    assert seen.see("a", 5)
    assert not seen.see("a", 4)
    assert seen.see("a", 6)
    assert seen.see("b", 4)
    assert not seen.see("a", 5)


def test_a_key_that_was_just_there_is_not_gone_without_a_trace(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Newest()
    assert seen.see("a", 0)
    assert seen.see("a", 5)
    assert not seen.see("a", 0)
    monkeypatch.setattr(newest, "_NOTHING", 0.0)
    assert seen.see("a", 0)


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "_MOST", 3)
    seen = Newest()
    for number in range(1, 10):
        assert seen.see(f"key {number}", number)
        assert seen.see("often", number)
    assert len(seen._seen) == 3
    assert not seen.see("often", 8)
