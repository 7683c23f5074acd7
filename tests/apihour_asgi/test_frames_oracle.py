"""Frames of a WebSocket against the library alone: the same messages, answers and end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from apihour_asgi.connected import ASGIConnection
from apihour_asgi.handshake import WebSocketSettings
from apihour_asgi.host import ASGIHost
from apihour_http.connection.whole_messages import LONGEST, framed, messages

LIMIT = 3000
FIELDS = [(b"Host", b"t"), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"),
          (b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA==")]
DEFLATE = (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_no_context_takeover; "
           b"server_no_context_takeover")


@pytest.fixture(autouse=True)
def no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is taken, however long this machine takes."""
    monkeypatch.setattr("apihour_asgi.message_inbox._BUDGET", float("inf"))


class Memory:
    """A connection in memory, as an exchange sees it."""

    http_version, memo, conn, write_paused, paused = "1.1", None, None, False, 0
    longest_message = LONGEST
    messages, framed = staticmethod(messages), staticmethod(framed)

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: Any = self
        self.written: list[bytes] = []
        self.write = self.written.append
        self.is_over = False

    def get_extra_info(self, name: str) -> None:
        return None

    def lowered(self, fields: Any) -> Any:
        return [(name.lower(), value) for name, value in fields]

    def upgraded(self, taker: Any) -> None:
        self.written.clear()

    def pause_payload(self) -> None:
        self.paused = 4

    def resume_payload(self) -> None:
        self.paused = 0

    def close_discarding(self) -> None:
        self.is_over = True

    def is_draining(self) -> bool:
        return False


async def accepted(lane: Any, *fields: tuple[bytes, bytes]) -> Any:
    """A WebSocket on `lane` that is accepted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not to be run")

    settings = WebSocketSettings(LIMIT, None)
    side = ASGIConnection(ASGIHost(app, "off", "", settings), lane)
    made = side.exchange(b"GET", b"/", [*FIELDS, *fields], False, True, 0, True, 0.0, False, False)
    side.running = made
    assert (await made.receive())["type"] == "websocket.connect"
    await made.send({"type": "websocket.accept"})
    return made


def oracle(parts: list[bytes], deflate: bool) -> tuple[list[Any], bytes, tuple[int, str] | None]:
    """What the library makes of frames: messages, what it answers, and the end."""
    protocol = Protocol(SERVER, state=OPEN, max_size=LIMIT)
    if deflate:
        protocol.extensions = [PerMessageDeflate(True, True, 12, 12)]
    found: list[Any] = []
    payload, is_text, end = b"", False, None
    for part in parts:
        protocol.receive_data(part)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.CLOSE:
                end = protocol.close_rcvd
            if frame.opcode > 2:
                continue
            if frame.opcode:
                payload, is_text = b"", frame.opcode is Opcode.TEXT
            payload += bytes(frame.data)
            if not frame.fin:
                continue
            try:
                found.append(str(payload, "utf-8") if is_text else payload)
            except UnicodeDecodeError as error:
                protocol.fail(1007, f"{error.reason} at position {error.start}")
        end = end or protocol.close_sent
        if end:
            break
    return found, b"".join(protocol.data_to_send()), end and (int(end.code), end.reason)


def masked(draw: random.Random, first: int, payload: bytes, length: int = -1) -> bytes:
    """A frame of a client; its length may be told in more bytes than it takes."""
    size = len(payload) if length < 0 else length
    wide = draw.choice([each for each, most in ((0, 126), (2, 65536), (8, 1 << 63)) if size < most])
    head = bytes((first, 0x80 | size)) if not wide else (
        bytes((first, 0x80 | (126 if wide == 2 else 127))) + size.to_bytes(wide, "big"))
    mask = draw.randbytes(4)
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


TEXTS = ["", "a", "hello", "é", "grüße " * 30, "x" * 125, "x" * 126, "\U0001f600" * 200,
         "y" * LIMIT]


def message(draw: random.Random) -> bytes:
    """The frames of one message, most often one."""
    is_text = draw.random() < 0.5
    text = draw.choice(TEXTS).encode()
    payload = text if is_text else draw.randbytes(draw.choice([0, 1, 7, 8, 9, 125, 300, LIMIT]))
    if draw.random() < 0.7:
        return masked(draw, 0x82 - is_text, payload)
    cut = draw.randrange(len(payload) + 1)
    between = masked(draw, 0x89, b"?") if draw.random() < 0.3 else b""
    return masked(draw, 2 - is_text, payload[:cut]) + between + masked(draw, 0x80, payload[cut:])


def wrong(draw: random.Random) -> bytes:
    """Something a client may not send, or what ends it."""
    return draw.choice([
        masked(draw, 0x81, b"\xff"), masked(draw, 0x81, b"ab\xc3"),
        masked(draw, 0x81, b"\xed\xa0\x80"),
        masked(draw, 0x80, b""), masked(draw, 1, b"x") + masked(draw, 0x81, b"y"),
        masked(draw, 0x83, b""), masked(draw, 0xc1, b"x"), masked(draw, 0xa1, b"x"),
        masked(draw, 9, b""), masked(draw, 0x89, bytes(126)), b"\x81\x01x", b"\x82\x00",
        masked(draw, 0x82, bytes(LIMIT + 1)), masked(draw, 0x82, b"x", 1 << 40),
        masked(draw, 0x88, b"\x03\xe8bye"), masked(draw, 0x88, b""), masked(draw, 0x88, b"\x03"),
        masked(draw, 2, b"x") + masked(draw, 0x88, b"\x03\xe8"),
    ])


def stream(draw: random.Random) -> list[bytes]:
    parts = []
    for _ in range(draw.randrange(1, 12)):
        parts.append(message(draw) if draw.random() < 0.8 else
                     masked(draw, draw.choice((0x89, 0x8a)), draw.randbytes(draw.choice((0, 125)))))
    if draw.random() < 0.6:
        parts += [wrong(draw), message(draw)]
    return parts


def pieces(draw: random.Random, data: bytes) -> Iterator[bytes]:
    """`data` as it may be read: whole, byte by byte, or anyhow."""
    most = draw.choice([1, 3, 20, 200, 4096, 1 << 20])
    while data:
        size = draw.randrange(1, most + 1) if most < 1 << 20 else len(data)
        yield data[:size]
        data = data[size:]


def taken(made: Any) -> Iterator[Any]:
    """What is there for the application."""
    while isinstance(found := made.take(), str | bytes):
        yield found


@pytest.mark.parametrize("deflate", [False, True])
async def test_streams_in_pieces_are_what_the_library_makes_of_them(deflate: bool) -> None:
    for seed in range(400):
        draw = random.Random(seed)
        parts = stream(draw)
        wanted, answers, end = oracle(parts, deflate)
        lane = Memory()
        made = await accepted(lane, *([DEFLATE] if deflate else []))
        found: list[Any] = []
        for piece in pieces(draw, b"".join(parts)):
            made.data_received(piece)
            found += taken(made)
        assert found == wanted, seed
        assert b"".join(lane.written) == answers, seed
        last = made.take()
        assert (last and (last["code"], last["reason"])) == end, seed
        assert lane.is_over == (end is not None), seed


async def test_what_is_sent_is_what_the_library_sends() -> None:
    lane = Memory()
    made = await accepted(lane)
    library = Protocol(SERVER, state=OPEN)
    for text in [*TEXTS, "x" * 65535, "x" * 65536, "é" * 40_000]:
        library.send_text(text.encode())
        await made.send({"type": "websocket.send", "text": text})
        for data in (text.encode(), bytearray(text.encode()), memoryview(text.encode())):
            library.send_binary(data)
            await made.send({"type": "websocket.send", "bytes": data, "text": None})
    assert b"".join(lane.written) == b"".join(library.data_to_send())
    for data in (5, None, ["x"], b"x"):
        with pytest.raises(TypeError, match=r"expected a str as text, or bytes"):
            await made.send({"type": "websocket.send", "text": data})
    with pytest.raises(TypeError, match=r"websocket.send of 'x'"):
        await made.send({"type": "websocket.send", "bytes": "x"})
    with pytest.raises(UnicodeEncodeError):
        await made.send({"type": "websocket.send", "text": "\ud800"})


async def test_who_is_cancelled_while_it_waits_loses_no_message() -> None:
    made = await accepted(Memory())
    waits = asyncio.create_task(made.receive())
    await asyncio.sleep(0)
    made.data_received(masked(random.Random(1), 0x81, b"one"))
    waits.cancel()  # it was woken, and has not run
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await made.receive() == {"type": "websocket.receive", "text": "one"}


async def test_several_wait_and_each_message_is_for_one() -> None:
    made = await accepted(Memory())
    waiting = [asyncio.create_task(made.receive()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    for name in (b"one", b"two"):
        made.data_received(masked(random.Random(1), 0x82, name))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    found = [(await waiting[each])["bytes"] for each in (0, 2)]
    assert sorted(found) == [b"one", b"two"]
    last = asyncio.create_task(made.receive())
    await asyncio.sleep(0)
    made.lost()
    assert (await last)["code"] == 1006


async def test_the_rest_of_a_head_is_no_frame_of_its_own() -> None:
    made = await accepted(Memory())
    made.data_received(b"\x82\xff" + bytes(7))  # and the last byte of the length
    made.data_received(b"\x82\x85\0\0\0" + bytes(130))
    assert made.take() == (b"\x85\0\0\0" * 33)[:130]
    assert made.take() is None


async def test_a_long_frame_is_asked_for_and_reading_stops_behind_it() -> None:
    lane = Memory()
    made = await accepted(lane)
    data = masked(random.Random(1), 0x82, bytes(LIMIT))
    assert made.data_received(data[:100]) == len(data) - 100
    assert made.data_received(data[100:]) == 0
    assert made.take() == bytes(LIMIT)
    made.data_received(masked(random.Random(1), 0x82, b"x") * 40)
    assert lane.paused
    for _ in range(10):
        assert made.take() == b"x"
    assert not lane.paused


async def test_answers_to_messages_that_came_together_leave_together_and_in_order() -> None:
    lane, draw = Memory(), random.Random(1)
    made = await accepted(lane)

    async def answer(text: str) -> None:
        assert await made.receive() == {"type": "websocket.receive", "text": text}
        await made.send({"type": "websocket.send", "text": text})

    made.data_received(masked(draw, 0x81, b"a") + masked(draw, 0x81, b"b"))
    await answer("a")
    assert lane.written == []
    await answer("b")
    assert lane.written == [b"\x81\x01a\x81\x01b"]
    await asyncio.sleep(0)
    made.data_received(masked(draw, 0x81, b"c") + masked(draw, 0x81, b"d"))
    await answer("c")
    await asyncio.sleep(0)  # it waits for something else
    assert lane.written[1:] == [b"\x81\x01c"]
    made.data_received(masked(draw, 0x81, b"e"))
    await answer("d")
    made.data_received(masked(draw, 0x89, b"?"))
    await answer("e")
    await made.send({"type": "websocket.close"})
    assert b"".join(lane.written[2:]) == b"\x81\x01d\x8a\x01?\x81\x01e\x88\x02\x03\xe8"
    await asyncio.sleep(0)
    assert len(b"".join(lane.written)) == 6 + 3 + 3 + 3 + 3 + 4


async def test_compressed_answers_leave_together_too() -> None:
    lane, draw = Memory(), random.Random(1)
    made = await accepted(lane, DEFLATE)
    made.data_received(masked(draw, 0x82, b"a") * 3)
    for _ in range(3):
        await made.receive()
        await made.send({"type": "websocket.send", "text": "a"})
    assert [data[0] for data in lane.written] == [0xc1]
    assert lane.written[0] == lane.written[0][:len(lane.written[0]) // 3] * 3


async def test_what_is_held_for_one_write_is_bounded_and_lost_with_its_client() -> None:
    lane, draw = Memory(), random.Random(1)
    made = await accepted(lane)
    made.data_received(masked(draw, 0x81, b"a") * 2)
    for _ in range(100):  # and neither is received
        await made.send({"type": "websocket.send", "bytes": bytes(1000)})
    assert len(b"".join(lane.written)) > 80_000
    lane.transport = None
    made.lost()
    before = len(lane.written)
    await asyncio.sleep(0)
    assert len(lane.written) == before


@pytest.mark.parametrize("args", [(), (b"x",), (b"x", -1), ("x", 1), (b"x", "y"), (b"x", 1, 2)])
def test_messages_are_of_bytes_up_to_a_limit(args: Any) -> None:
    if getattr(messages, "__code__", None) is not None:
        pytest.skip("the one in Python is told by its types")
    with pytest.raises(TypeError):
        messages(*args)
