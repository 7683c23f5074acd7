"""What is made of the store's keys, in whatever order they are seen, and of hostile ones."""

from __future__ import annotations

import asyncio

import pytest

from apihour.presence.presence_entry import PresenceChange, PresenceEntry, write_line
from apihour.presence.presence_pages import alive_key, page_prefix, read_key
from apihour.presence.presence_view import PresenceView, PresenceWatcher

PAGE = "apihour.presence/at/room/lobby/s1.0"


def line(number: int, who: str) -> bytes:
    return write_line(number, who, 1.0, {})


def whos(changes: list[PresenceChange]) -> list[tuple[bool, str]]:
    return sorted((one.joined, one.entry.who) for one in changes)


def test_a_page_counts_from_the_sign_of_life_on() -> None:
    view = PresenceView()
    assert view.see(PAGE, line(1, "ada") + b"\n" + line(2, "bob")) == []
    assert view.dead_pages() == [PAGE] and list(view.all()) == []
    assert whos(view.see(alive_key("s1"), b'["web-1","1.2"]')) == [(True, "ada"), (True, "bob")]
    assert view.see(alive_key("s1"), b'["web-1","1.2"]') == []
    [ada, _] = view.all()
    assert (ada.subject, ada.host, ada.worker, ada.id) == ("room.lobby", "web-1", "1.2", "s1.1")
    assert whos(view.see(PAGE, line(2, "bob") + b"\n" + line(3, "eve"))) == [
        (False, "ada"), (True, "eve")]
    assert whos(view.see(alive_key("s1"), None)) == [(False, "bob"), (False, "eve")]
    assert view.see(PAGE, None) == []
    assert view._sessions == {}


@pytest.mark.parametrize("key", [
    "", "apihour.presence/", "apihour.presence/at/", "apihour.presence/at/x", "apihour.limits/x"])
def test_other_keys_are_nothing(key: str) -> None:
    assert PresenceView().see(key, b"x") == []


@pytest.mark.parametrize("value", [
    b"", b"x", b"[1]", b'[1,"a",1,[]]', b'[1,2,3,{}]', b'["x","a",1,{}]', b"[" * 5000, b"\xff",
    b"[1,2,3,4,5]", b'[Infinity,"a",1,{}]', b'[1,"a",NaN,{}]', b'[1,"\\u001b",1,{}]',
    b'[1,"a",1' + b"0" * 400 + b",{}]", b'{"a":1,"b":2,"c":3,"d":4}'])
def test_lines_that_are_none_are_left_out(value: bytes) -> None:
    view = PresenceView()
    view.see(alive_key("s1"), value)
    assert whos(view.see(PAGE, value + b"\n" + line(1, "ada"))) == [(True, "ada")]


def test_keys_are_of_one_subject_each_and_patterns_have_a_prefix() -> None:
    assert read_key(PAGE) == ("s1", "room.lobby")
    assert read_key("apihour.presence/at/a/b.c/s2.11") == ("s2", "a.b/c")
    assert page_prefix("a.b/c") == "apihour.presence/at/a/b.c/"
    assert page_prefix("a.*.c") == "apihour.presence/at/a/"
    assert page_prefix(">") == "apihour.presence/at/"


async def test_a_watcher_is_told_the_latest_and_nothing_twice() -> None:
    def change(joined: bool, who: str, subject: str = "a.b") -> PresenceChange:
        return PresenceChange(joined, PresenceEntry(subject, who, "h", "1", 1.0, {}, who))

    watcher = PresenceWatcher("a.*")
    for joined, who in ((True, "ada"), (True, "bob"), (False, "ada"), (False, "eve")):
        watcher.see(change(joined, who))
    watcher.see(change(True, "joe", "b.b"))
    telling = watcher.tell()
    assert (await anext(telling)).entry.who == "bob"
    for joined in (True, False, True):
        watcher.see(change(joined, "bob"))
    watcher.see(change(True, "ada"))
    assert whos([await anext(telling)]) == [(True, "ada")]
    waiting = asyncio.ensure_future(anext(telling))
    await asyncio.sleep(0)
    watcher.see(change(False, "bob"))
    assert whos([await waiting]) == [(False, "bob")]
    watcher.end(ValueError("lost"))
    with pytest.raises(ValueError, match="lost"):
        await anext(telling)
