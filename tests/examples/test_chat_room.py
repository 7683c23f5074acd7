"""examples/chat's room, in memory: strangers on its bus and in its store."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import socket
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from apihour.errors import SharedDownError
from apihour.presence import PresenceChange, PresenceEntry, PresenceError
from apihour_tcp import LibraryServer

CHAT = Path(__file__).parents[2] / "examples" / "chat"


@pytest.fixture
def chat(monkeypatch):
    """A module of the example, by name."""
    monkeypatch.syspath_prepend(CHAT)
    names = ("room", "broker", "chat")
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


class Store:
    """A store with one key."""

    def __init__(self, value):
        self.value = value

    async def get(self, key):
        return None if self.value is None else SimpleNamespace(value=self.value)

    async def update(self, key, change):
        self.value = change(self.value)


@pytest.mark.parametrize("value", [
    b"", b"\xff", b"7", b"null", b"[1]", b'{"a": 1, "b": 2}', b'["1", []]', b"[true, []]",
    b'[-3, ["x"]]', b'[NaN, ["x"]]', b"[1e9, []]", b'[1, "text"]', b"[1, {}]", b"[" * 99_999,
    b"[%s, []]" % (b"9" * 5000), b'[9007199254740992, ["x"]]', b"[0, [1, null, {}, []]]"],
    ids=lambda value: value[:30].decode(errors="replace"))
async def test_what_others_wrote_in_its_place_does_not_end_the_room(chat, value):
    room = chat("room").Room(Container())
    room.shared = Store(value)
    async with asyncio.timeout(30):
        await room.catch_up()
        assert list(room.recent) == []
        assert await room.keep("ada: hello") == (1, "ada: hello")
        await room.catch_up()
    assert list(room.recent) == ["ada: hello"]


async def test_what_others_wrote_into_its_lines_is_shown_clean_and_bounded(chat):
    room = chat("room").Room(Container())
    lines = [f"old {number}" for number in range(5000)]
    text = json.dumps([7000, [*lines, 5, "\x1b[2J", "y" * 100_000]])
    room.shared = Store(text.encode())
    await room.catch_up()
    assert len(room.recent) <= 100
    assert all(line.isprintable() and len(line) < 500 for line in room.recent)
    assert room.number == 7000


async def test_a_store_that_lost_everything_is_the_begin_of_a_new_room(chat):
    container = Container(news=[b'[1, "ada: again"]', b'[2, "bob: hi"]'])
    room = chat("room").Room(container)
    room.shared, room.number = Store(b'[1, ["ada: again"]]'), 57
    async with asyncio.timeout(30):
        await room.follow()
    assert list(room.recent) == ["ada: again", "bob: hi"]
    room.number = 57  # as one that was there when it happened
    calls = []

    async def catch_up():
        calls.append(room.number)

    room.catch_up = catch_up
    async with asyncio.timeout(30):
        await room.follow()
    assert calls == [57, 57, 57]  # at its begin, and for each line that is not the next


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
    session = SimpleNamespace(client_id=client_id, clean_session=False, will_flag=True)
    assert await door.authenticate(SimpleNamespace(), session=session) is is_let_in


@pytest.mark.parametrize(("wish", "name"), [
    ("ada", "ada"), ("Ada_2", "Ada_2"), ("bob: hi", "bob_hi"), ("*", "guest"), ("* you", "you"),
    ("\u0430da", "da"), ("\u3164", "guest"), ("a\u0301da\u202e", "ada"), ("\uff41da", "ada"),
    ("\x1b[2Jx", "2Jx"), ("", "guest"), ("x" * 500, "x" * 20), ("-.>#", "guest")])
async def test_no_name_looks_like_another_or_like_the_rooms_own_words(chat, wish, name):
    assert chat("room").name_of(wish) == name


class Presence:
    """Entries, each seen by others when it has joined."""

    def __init__(self, *names):
        self.entries, self.joins, self.lists = {}, 0, 0
        for name in names:
            self.add(name)

    def add(self, who, **about):
        self.joins += 1
        entry = PresenceEntry("chat.lobby", who, "host", "1.1", 0.0, about, str(self.joins))
        self.entries[entry.id] = entry
        return entry

    async def join(self, subject, who, **about):
        await asyncio.sleep(0.001)
        entry = self.add(who, **about)
        await asyncio.sleep(0.001)
        return entry

    async def leave(self, entry):
        self.entries.pop(entry.id, None)

    async def list(self, subject):
        self.lists += 1
        await asyncio.sleep(0.001)
        return list(self.entries.values())


async def test_a_crowd_of_one_name_costs_each_little(chat):
    room = chat("room").Room(Container())
    room.presence = Presence("Guest", *(f"guest{number}" for number in range(2, 90)))
    before = room.presence.joins
    async with asyncio.timeout(30):
        entries = await asyncio.gather(*(room.claim("guest", "tcp") for _ in range(100)))
    names = {one.who.casefold() for one in room.presence.entries.values()}
    assert len(names) == len(room.presence.entries) == 88 + 1 + 100
    assert room.presence.joins - before < 350
    assert room.presence.lists < 450
    assert len({one.who for one in entries}) == 100


async def test_a_crowd_waits_in_no_line_without_end(chat):
    room = chat("room").Room(Container())
    room.presence = Presence()
    found = await asyncio.gather(*(room.claim("guest", "tcp") for _ in range(150)),
                                 return_exceptions=True)
    refused = [one for one in found if isinstance(one, PresenceError)]
    assert len(refused) == 50
    assert str(refused[0]) == "chat: 100 visitors come at this moment; expected fewer"
    assert (await room.claim("ada", "tcp")).who == "ada"


async def test_a_name_is_given_back_when_the_store_goes_away(chat):
    room = chat("room").Room(Container())
    room.presence = Presence()

    async def away(subject):
        raise SharedDownError("away")

    room.presence.list = away
    with pytest.raises(SharedDownError):
        await room.claim("ada", "tcp")
    assert not room.presence.entries


async def test_who_is_here_is_asked_as_seldom_as_a_line_is_said(chat):
    room = chat("room").Room(Container())
    room.presence = Presence(*(f"guest{number}" for number in range(500)))
    room.rate = SimpleNamespace(take=lambda who: asyncio.sleep(0, left.pop()))
    left = [False, True]
    answer = await room.say("ada", "/who")
    assert answer.startswith("* here: guest0 (None, host), ")
    assert answer.endswith(" and 450 others")
    assert await room.say("ada", "/who") == "* not said: slower, please"
    assert room.presence.lists == 1


async def test_who_says_no_name_is_not_waited_for(chat, monkeypatch):
    module = chat("chat")
    monkeypatch.setattr(module, "SLOW", 0.2)
    reader, ends = asyncio.StreamReader(), []
    writer = SimpleNamespace(write=ends.append, drain=lambda: asyncio.sleep(0),
                             is_closing=lambda: False, close=lambda: ends.append("closed"))
    async with asyncio.timeout(30):
        await module.Container.by_tcp(SimpleNamespace(), reader, writer)
    assert ends[-1] == "closed"


def test_who_has_left_while_a_name_was_found_is_no_error(chat):
    uvloop = pytest.importorskip("uvloop")  # its transports refuse what is written to one closed
    module = chat("chat")
    ends = []

    async def run():
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=near)

        async def visit(name, door, texts, tell):
            writer.close()
            await writer.wait_closed()
            await module.either(tell("* you are ada"))
            ends.append(name)

        far.sendall(b"ada\n")
        async with asyncio.timeout(30):
            await module.Container.by_tcp(SimpleNamespace(visit=visit), reader, writer)
        far.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    assert ends == ["ada\n"]


# -- the door for MQTT, at a real socket


class Lobby:
    """The room as the broker has it."""

    def __init__(self):
        self.recent, self.presence = [], Presence()
        self.lines = asyncio.Queue()

    @contextlib.contextmanager
    def seat(self):
        yield self

    async def __aiter__(self):
        while True:
            yield await self.lines.get()

    async def claim(self, wish, door):
        return await self.presence.join("", wish)

    async def say(self, who, text):
        if text.startswith("/"):
            return "* for him alone"
        await self.lines.put(f"{who}: {text}")


@contextlib.asynccontextmanager
async def mqtt(chat, **bounds):
    """Its broker, served; yields how to connect."""
    module = chat("broker")
    for name, bound in bounds.items():
        setattr(module, name, bound)
    server = LibraryServer(lambda: module.make_broker(Lobby()),
                           stop=lambda broker: broker.shutdown())
    await server.start()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server.stream, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield lambda: asyncio.open_connection("127.0.0.1", port)
    finally:
        listening.close()
        await server.stop()


def packet(kind, body, length=None):
    rest, head = len(body) if length is None else length, bytearray([kind])
    while True:
        rest, digit = divmod(rest, 128)
        head.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes(head) + body


def text(data):
    return struct.pack("!H", len(data)) + data


def connect(name, flags=2, more=b""):
    return packet(0x10, text(b"MQTT") + bytes([4, flags]) + b"\0\0" + text(name) + more)


HOSTILE = {
    "huge": connect(b"eve") + packet(0x30, text(b"say") + b"x" * 9000, 200_000_000),
    "no CONNECT": b"", "garbage": b"\x16\x03\x01\x02" * 100, "half": b"\x10",
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
async def test_a_client_that_is_none_is_parted(chat, sent):
    pytest.importorskip("amqtt")
    async with asyncio.timeout(30), mqtt(chat, SLOW=0.5) as connection:
        reader, writer = await connection()
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_what_a_client_is_not_told_is_no_line_of_the_log(chat, caplog):
    pytest.importorskip("amqtt")
    caplog.set_level("INFO")
    async with asyncio.timeout(30), mqtt(chat) as connection:
        hearing, listener = await connection()
        listener.write(connect(b"ada") + packet(0x82, b"\0\1" + text(b"chat/#") + b"\0"))
        await hearing.readexactly(9)
        _, other = await connection()
        other.write(connect(b"bob") + packet(0x30, text(b"say") + b"/answer")
                    + packet(0x30, text(b"say") + b"over"))
        await hearing.readuntil(b"over")
        listener.close()
        other.close()
    assert "not allowed to receive" not in caplog.text


async def test_a_last_will_says_nothing_past_the_room(chat):
    pytest.importorskip("amqtt")
    async with asyncio.timeout(30), mqtt(chat) as connection:
        hearing, listener = await connection()
        listener.write(connect(b"ada") + packet(0x82, b"\0\1" + text(b"chat/#") + b"\0"))
        assert await hearing.readexactly(9) == b"\x20\x02\0\0\x90\x03\0\x01\0"
        _, dying = await connection()
        will = text(b"chat/lobby") + text(b"\x1b[2Jbob: forged")
        dying.write(connect(b"eve", 6, will))
        await asyncio.sleep(0.1)
        dying.transport.abort()
        await asyncio.sleep(0.1)
        listener.write(packet(0x30, text(b"say") + b"honest"))
        heard = await hearing.readuntil(b"honest")
        assert b"forged" not in heard
        assert b"ada: honest" in heard
        listener.close()


async def test_who_reads_nothing_is_not_waited_for(chat, monkeypatch):
    pytest.importorskip("amqtt")
    module = chat("broker")
    monkeypatch.setattr(module, "SLOW", 0.2)
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    peer = module.Peer(reader, writer)
    peer.write(bytes(5_000_000))
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionResetError):
            await peer.drain()
        with pytest.raises(ConnectionResetError):
            await peer.read(1)
    far.close()
