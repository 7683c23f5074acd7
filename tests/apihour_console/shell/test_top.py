"""``top``: its model over rows, and the full screen typed at through ssh."""

from __future__ import annotations

from typing import Any

import pytest

from apihour_console.shell.top_model import TopModel, sparkline
from tests.apihour_console.support import Shells, Typist, wait_until


def row(kind: str, name: str, **values: Any) -> dict[str, Any]:
    given = {"state": "serving", "requests_s": 0.0, "connections": 0, "accepted_s": 0.0,
             "errors_s": 0.0, "cpu": 1.0, "rss": 1 << 20, "lag": 0.001}
    return {"kind": kind, "name": name, **given, **values}


ROWS = [
    row("worker", "1.1", requests_s=5.0), row("worker", "10.1", requests_s=50.0, connections=3),
    row("worker", "2.1", state="stuck 3.0 s", cpu=None),
    row("server", "http", state="http", requests_s=55.0, rss=None),
]


def model() -> TopModel:
    found = TopModel()
    found.update(ROWS)
    return found


def test_sorting_selecting_and_switching() -> None:
    found = model()
    assert [one["name"] for one in found.sorted("worker")] == ["1.1", "2.1", "10.1"]
    found.sort_by(2)  # requests per second, the most first
    assert [one["name"] for one in found.sorted("worker")] == ["10.1", "1.1", "2.1"]
    found.reverse = True
    assert [one["name"] for one in found.sorted("worker")] == ["2.1", "1.1", "10.1"]
    found.move(10)
    assert found.current() == ("worker", "10.1")
    found.switch()
    assert found.current() == ("server", "http")
    found.update([])
    assert found.current() == ("server", "")
    found.move(1)
    assert found.lines(80, "x")


def test_lines_fit_and_mark_what_is_wrong() -> None:
    found = model()
    found.update(ROWS, ["worker 2.1: no answer"])
    lines = found.lines(70, "hello\x1b")
    assert all(len(line.text) <= 70 for line in lines)
    assert lines[0].text.startswith("hello")
    assert "conns 3" in lines[0].text and "req/s 55" in lines[0].text
    assert [line.style for line in lines if "2.1" in line.text] == ["bad", "bad"]
    assert sum(line.selected for line in lines) == 1


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [([0, 0], 5, "▁▁"), ([0, 1, 2, 4], 4, "▁▂▄█"), ([9, 1, 2, 4], 2, "▄█"), ([1], 0, "")],
)
def test_sparklines(values: list[float], width: int, expected: str) -> None:
    assert sparkline(values, width) == expected


async def test_the_full_screen(shells: Shells, typist: Typist) -> None:
    await typist.start(shells.command(options=["-tt"]))
    await typist.expect("apihour>")
    await typist.type("top\r")
    await typist.expect(r"WORKER\*.*q quit.*1\.1 +serving.*2\.1 +stuck.*http +http")
    await typist.type("?")
    await typist.expect("leave.*the column to sort by.*how late the loop is")
    await typist.type("?\r")
    await typist.expect(r"worker 1\.1.*connections")
    await typist.type("q")
    await typist.expect("apihour>")
    await typist.type("top\r")
    await typist.expect("q quit")
    await typist.type("\x03")
    await typist.expect("apihour>")
    await typist.type("version\r")
    await typist.expect("apihour 1.0")


async def test_one_look_where_there_is_no_screen(shells: Shells, typist: Typist) -> None:
    status, out, _ = await shells.run("top", "--json")
    assert status == 0 and '"kind": "worker"' in out
    await typist.start(shells.command("top", options=["-tt"]))
    await typist.expect("q quit")
    await typist.type("q")
    assert await typist.ended() == 0
    await wait_until(lambda: not list(shells.server.sessions()))


async def test_watch_looks_again(shells: Shells, typist: Typist) -> None:
    status, out, _ = await shells.run("watch", "--limit", "2", "0.2", "workers", "--csv")
    assert status == 0 and out.count("1.1,11") == 2 and out.count("worker,pid") == 1
    assert (await shells.run("watch", "1", "reload"))[0] == 2
    await typist.start(shells.command(options=["-tt"]))
    await typist.expect("apihour>")
    await typist.type("watch 0.2 workers\r")
    await typist.expect("every 0.2 s: workers.*every 0.2 s: workers")
    await wait_until(lambda: "every" in typist.seen, 30)
    await typist.type("\x03")
    await typist.expect("apihour>")
