"""Ids of connections and tasks, of every process that has had a worker's name."""

from __future__ import annotations

import pytest

from apihour.ops.ids import Ids


@pytest.mark.parametrize("start", [1, 2, 30])
@pytest.mark.parametrize("mark", ["-", ":"])
def test_an_id_is_read_by_its_own_process_alone(mark: str, start: int) -> None:
    ids = Ids("3.12", start)
    text = ids.write(mark, 17)
    assert ids.read(mark, text) == 17
    for other in (1, 2, 3, 30):
        if other != start:
            assert Ids("3.12", other).read(mark, text) is None, other
    assert Ids("3.1", start).read(mark, text) is None


@pytest.mark.parametrize("text", ["", "-", "1.2-", "1.2-x", "1.2--1", "1.2-" + "9" * 19, "2.2-1"])
def test_what_is_no_id(text: str) -> None:
    assert Ids("1.2").read("-", text) is None
