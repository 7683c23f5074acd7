"""examples/chat's room, in memory: strangers on its bus and in its store."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from apihour.presence import PresenceChange, PresenceEntry

CHAT = Path(__file__).parents[2] / "examples" / "chat"


@pytest.fixture
def chat(monkeypatch):
    """A module of the example, by name."""
    monkeypatch.syspath_prepend(CHAT)
    names = ("room", "broker")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


class Container:
    """What the room asks of one: an empty store, a bus and a presence that say what is given."""

    def __init__(self, news=(), changes=()):
        self.shared, self.bus, self.presence = self, self, SimpleNamespace(watch=self.watch)
        self.news, self.changes = news, changes

    def limits(self, name, **rate):
        return None

    async def get(self, key):
        return None

    @contextlib.asynccontextmanager
    async def subscribe(self, subject, gaps):
        yield self.messages()

    async def messages(self):
        for data in self.news:
            yield SimpleNamespace(data=data)

    async def watch(self, subject):
        for change in self.changes:
            yield change


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"7", b"[1]", b"[1, 2]", b'["1", "x"]', b"[" * 99_999])
async def test_what_is_no_line_does_not_end_the_room(chat, data):
    room = chat("room").Room(Container(news=[data, b'[1, "ada: hello"]']))
    async with asyncio.timeout(30):
        await room.follow()
    assert list(room.recent) == ["ada: hello"]


async def test_a_strangers_line_has_no_control_characters_and_an_end(chat):
    room = chat("room").Room(Container(news=[b'[1, "\\u001b[2Jx%b"]' % (b"y" * 100_000)]))
    async with asyncio.timeout(30):
        await room.follow()
    (line,) = room.recent
    assert line.isprintable()
    assert len(line) < 500


async def test_who_has_no_door_does_not_end_the_room(chat):
    entry = PresenceEntry("chat.lobby", "eve", "host", "1.1", 0.0, {}, "1")
    room = chat("room").Room(Container(changes=[PresenceChange(True, entry)]))
    with room.seat() as seat:
        await room.announce()
        assert list(seat.lines) == ["* eve is here (None)"]


@pytest.mark.parametrize(("client_id", "is_let_in"), [
    ("ada", True), ("", True), ("#", False), ("+", False), ("a/b", False)])
async def test_a_client_whose_id_is_a_pattern_of_topics_is_not_let_in(chat, client_id, is_let_in):
    pytest.importorskip("amqtt")
    door = chat("broker").Door
    session = SimpleNamespace(client_id=client_id)
    assert await door.authenticate(SimpleNamespace(), session=session) is is_let_in
