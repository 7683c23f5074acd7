"""The releases that served: which is before the present one, and when there is none."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from apihour.books.books import Books
from apihour.errors import ApihourError
from apihour.reload.changes import previous


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    found = [tmp_path / name for name in "abc"]
    for one in found:
        one.mkdir()
    return [str(one) for one in found]


def test_each_rollback_goes_back_by_one(places: list[str]) -> None:
    first, second, third = places
    books = Books(Mock())
    for one in (first, second, second, third):
        books.note_release(one)
    assert books.releases == places and previous(books.releases) == second
    books.releases.pop()
    books.note_release(second)
    assert previous(books.releases) == first


def test_one_directory_of_all_generations_is_named(places: list[str]) -> None:
    with pytest.raises(ApihourError, match=(
            f"all generations ran in '{places[0]}', but those that a rollback has left; expected")):
        previous([places[0]])


def test_a_release_that_is_gone_is_named(places: list[str]) -> None:
    Path(places[0]).rmdir()
    with pytest.raises(ApihourError, match=f"'{places[0]}' is gone"):
        previous(places[:2])


def test_it_does_not_grow_for_ever() -> None:
    books = Books(Mock())
    for number in range(1000):
        books.note_release(f"/{number}")
    assert len(books.releases) == 20 and books.releases[-1] == "/999"
