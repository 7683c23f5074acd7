"""The pager: its model over keys, and the screens of a session in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apihour_console.shell.audit import AuditLog
from apihour_console.text.pages import Pages, screen_lines
from tests.apihour_console.memory import LOGGER, Operator
from tests.apihour_console.support import FakeFleet, wait_until

TEXT = "".join(f"line {number}\n" for number in range(100))
ON, OFF = "\x1b[?1049h", "\x1b[?1049l"


def pages(text: str = TEXT, columns: int = 80, rows: int = 11) -> Pages:
    return Pages(text, columns, rows)


def press(found: Pages, *keys: str) -> str:
    ending = ""
    for key in keys:
        assert not ending
        ending = found.press(key)
    return ending


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ((" ",), 10), (("f", "b"), 0), ((" ", " ", "b"), 10), (("j", "j", "k"), 1), (("G",), 90),
        (("G", "g"), 0), (("\x1b[B",), 1), (("\x1b[B", "\x1b[A"), 0), (("\x1b[6~", "\x1b[5~"), 0),
        (("d", "u"), 0), (("b",), 0), (("G", "\x1b[H"), 0), (("\x1b[F", "k"), 89), (("x",), 0),
    ],
)
def test_every_way_there_is_a_way_back(keys: tuple[str, ...], first: int) -> None:
    found = pages()
    assert press(found, *keys) == ""
    assert found.screen()[0] == f"line {first}"


def test_a_search_goes_on_and_back_and_round_the_end() -> None:
    found = pages()
    press(found, "/", *"line 5", "\r")
    assert found.top == 5
    press(found, "n")
    assert found.top == 50
    press(found, "n", "N", "N")
    assert found.top == 5 and not found.note
    press(found, "N")
    assert found.top == 59 and "other end" in found.status()
    press(found, "/", *"nowhere", "\r")
    assert found.top == 59 and "'nowhere' is not there" in found.status()
    press(found, "g", "/", *"LINE", "\x7f\x7f"[:1], "\x15", *"99", "\r")
    assert found.top == 90  # the last screen holds it
    assert "\x1b[7m99\x1b[27m" in found.screen()[-1]
    press(found, "/", "x", "\x03", "/", "\x7f")
    assert found.query is None and found.top == 90


def test_case_matters_only_with_a_capital() -> None:
    found = pages("a\n" * 20 + "Upper\n" + "b\n" * 20 + "upper\n" + "c\n" * 20)
    press(found, "/", *"upper", "\r")
    assert found.top == 20
    press(found, "g", "/", *"Upper", "\r", "n")
    assert found.top == 20
    press(found, "n")
    assert "other end" in found.status() or found.top == 20


def test_the_end_is_said_and_left() -> None:
    found = pages()
    press(found, "G")
    assert "(end)" in found.status() and found.is_at_end
    assert press(found, " ") == "quit" and press(pages(), "q") == "quit"
    assert press(pages(), "a") == "all" and pages().rest() == TEXT


def test_help_and_a_status_fit_any_terminal() -> None:
    found = pages(columns=20, rows=5)
    assert len(found.status()) < 20
    press(found, "h")
    assert len(found.screen()) == 4 and "screen on" in found.screen()[0]
    press(found, "x")
    assert found.screen()[0] == "line 0"


def test_wide_lines_take_as_many_as_they_need_and_keep_their_colour() -> None:
    text = "\x1b[31m" + "r" * 25 + "\x1b[0mplain\n" + "世" * 7
    lines = screen_lines(text, 10)
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert bare == ["r" * 10, "r" * 10, "r" * 5 + "plain", "世" * 5, "世" * 2]
    assert all(line.startswith("\x1b[31m") for line in lines[:3])
    assert lines[0].endswith("\x1b[0m") and not lines[2].endswith("\x1b[0m")


def test_a_new_size_keeps_the_place() -> None:
    found = pages()
    press(found, "G")
    found.resize(80, 31)
    assert found.is_at_end and len(found.screen()) == 30
    found.resize(20, 5)
    assert found.top >= 60


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """One operator at a prompt."""
    found = Operator(FakeFleet(), AuditLog(None, LOGGER), size=(60, 12), directory=tmp_path)
    await found.expect("apihour>")
    yield found
    await found.close()


async def test_a_screen_of_its_own_and_what_was_seen_last_stays(operator: Operator) -> None:
    await operator.type("long\r")
    await operator.expect("LINE.*-- more 1-11 of 201")
    await operator.type("/150")
    await operator.expect("/150|0")
    await operator.type("\r")
    await operator.expect(r"\n152\n.*-- more 152-162")
    await operator.type("b")
    await operator.expect("141.*-- more 141-151")
    await operator.type("qversion\r")  # typed ahead
    await operator.expect("apihour 1.0.*apihour>")
    before, _, after = operator.raw.rpartition(OFF)
    assert operator.raw.count(ON) == operator.raw.count(OFF) == 1
    assert "\n140" in after.replace("\r", "") and ON in before


async def test_whatever_ends_it_gives_the_screen_back(operator: Operator) -> None:
    await operator.type("long\r")
    await operator.expect("-- more")
    await operator.type("\x03")
    await operator.expect(r"\^C.*apihour>")
    assert operator.raw.count(ON) == operator.raw.count(OFF) == 1
    await operator.type("long\r")
    await operator.expect("-- more")
    operator.session.terminal_size_changed(40, 30, 0, 0)
    await operator.expect("-- more 1-29 of 201")
    await operator.type("a")
    await operator.expect("199.*apihour>")
    await operator.type("long\r")
    await operator.expect("-- more")
    operator.session.eof_received()
    assert await operator.ended() == 0
    assert operator.raw.count(ON) == operator.raw.count(OFF) == 3


async def test_watch_leaves_nothing_and_scrolls_nothing(operator: Operator) -> None:
    await operator.type("watch 0.2 long\r")
    await operator.expect(r"every 0.2 s: long.*\(19\d more lines.*every 0.2 s")
    await operator.type("\x03")
    await operator.expect(r"\^C.*apihour>")
    painted = operator.raw[operator.raw.index(ON):operator.raw.index(OFF)]
    looks = painted.split("\x1b[H")[2:]
    assert looks and all(look.count("\n") == 11 for look in looks)
    assert "LINE" not in operator.raw.rpartition(OFF)[2]


async def test_the_last_of_so_many_looks_stays(operator: Operator) -> None:
    await operator.type("watch --limit 2 0.2 workers\r")
    await wait_until(lambda: OFF in operator.raw, 30)
    await operator.expect(r"1\.1.*apihour>")
    assert "serving" in operator.raw.rpartition(OFF)[2]


async def test_top_gives_the_screen_back(operator: Operator) -> None:
    for key in ("q", "\x03"):
        await operator.type("top\r")
        await operator.expect("q quit")
        await operator.type(key)
        await operator.expect("apihour>")
    assert operator.raw.count(ON) == operator.raw.count(OFF) == 2
    await operator.type("version\r")
    await operator.expect("apihour 1.0")


async def test_without_a_screen_looks_follow_each_other(tmp_path: Path) -> None:
    found = Operator(FakeFleet(), AuditLog(None, LOGGER), kind="dumb",
                     command="watch --limit 2 0.2 workers")
    assert await found.ended() == 0
    assert "\x1b" not in found.raw and found.raw.count("1.1") == 2
