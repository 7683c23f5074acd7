"""The releases that served: which is before the present one, and when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from apihour.books.releases import Releases
from apihour.errors import ApihourError


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    found = [tmp_path / name for name in "abc"]
    for one in found:
        one.mkdir()
    return [str(one) for one in found]


def test_each_rollback_goes_back_by_one(places: list[str]) -> None:
    first, second, third = places
    releases = Releases(first)
    for one in (first, second, second, third):
        releases.note(one)
    assert releases.facts() == places and releases.previous() == second
    releases.leave()
    releases.note(second)
    assert releases.previous() == first
    assert Releases(second, releases.facts()).facts() == [first, second]


def test_when_rollbacks_have_used_all_up_that_is_said(places: list[str]) -> None:
    releases = Releases(places[1], [places[0]])
    releases.leave()
    releases.note(places[0])
    with pytest.raises(ApihourError, match=(
            f"all generations ran in '{places[0]}', but those that a rollback has left; expected")):
        releases.previous()


def test_one_directory_of_all_generations_is_named(places: list[str]) -> None:
    releases = Releases(places[0])
    releases.note(places[0])
    with pytest.raises(ApihourError, match=f"all generations ran in '{places[0]}'"):
        releases.previous()


def test_a_release_that_is_gone_is_named(places: list[str]) -> None:
    releases = Releases(places[1], [places[0]])
    Path(places[0]).rmdir()
    with pytest.raises(ApihourError, match=f"'{places[0]}' is gone"):
        releases.previous()


def test_it_does_not_grow_for_ever() -> None:
    releases = Releases("/0")
    for number in range(1000):
        releases.note(f"/{number}")
    assert len(releases.facts()) == 20 and releases.facts()[-1] == "/999"
