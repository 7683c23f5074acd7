"""The two parsers decide the same: cuts, trailers, versions and lines that are too long."""

from __future__ import annotations

import random

import pytest
from aiohttp import web

from apihour_http.connection.pieces import Pieces, trailers
from apihour_http.errors import BadRequest

from ..support import get, serving
from ..test_corpus import everything, statuses

LANES = pytest.mark.parametrize("lane", ["direct", "app"])
PARSERS = pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
PATIENCE = 30.0
HEAD = b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"


def cut(pieces: Pieces, data: bytes) -> list[bytes]:
    found, done = [], 0
    while done < len(data):
        found.append(pieces.next(data, done))
        done += len(found[-1])
    return found


def test_pieces_end_where_a_message_may() -> None:
    pieces = Pieces()
    assert cut(pieces, b"a\r\n\r\nb\r\n\r\nc") == [b"a\r\n\r\n", b"b\r\n\r\n", b"c"]
    # Across reads: nothing of the second message comes with the end of the first.
    pieces = Pieces()
    for part in (b"a\r", b"\n", b"\r"):
        assert cut(pieces, part) == [part]
    assert cut(pieces, b"\nnext\r\n\r\n") == [b"\n", b"next\r\n\r\n"]
    pieces.begin(False, "5")
    assert cut(pieces, b"\r\n\r\n") == [b"\r\n\r\n"]
    assert cut(pieces, b"\nGET") == [b"\n", b"GET"]


def test_trailers_are_what_follows_the_last_chunk() -> None:
    assert trailers(b"3\r\nabc\r\n0\r\n\r\n") == []
    assert trailers(b"000;a=b\r\nA: b\r\nC:d \r\n\r\n") == [(b"A", b"b"), (b"C", b"d")]
    assert trailers(b"x: 0\r\n0\r\n0: x\r\n\r\n") == [(b"0", b"x")]
    with pytest.raises(BadRequest, match="too long"):
        trailers(b"A: b\r\n" * 1000 + b"\r\n")


@LANES
@PARSERS
async def test_chunked_uploads_keep_their_connection_whatever_trails(
    lane: str, parser: str
) -> None:
    chooser = random.Random(1)
    async with serving(**everything(lane), parser=parser) as served:
        for _ in range(40):
            data, lengths = b"", []
            for _ in range(6):
                body = bytes(chooser.choices(b"\r\n0aX: ", k=chooser.randrange(60)))
                trailer = chooser.choice([b"", b"X-Sum: 1\r\n", b"A: 0\r\nB: 0\r\n"])
                chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
                data += HEAD + chunk + b"0\r\n" + trailer + b"\r\n"
                lengths.append(len(body))
                if chooser.random() < 0.4:
                    data += b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 7\r\n\r\n\r\n\r\nabc"
                    lengths.append(7)
            peer = await served.connect()
            while data:
                size = chooser.randrange(1, 200)
                peer.send(data[:size])
                await peer.writer.drain()
                data = data[size:]
            for length in lengths:
                answer = await peer.answer(PATIENCE)
                assert answer.body.replace(b" ", b"") == b'{"length":%d}' % length
            peer.close()


@LANES
@PARSERS
@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Transfer-Encoding"])
async def test_trailers_that_route_or_frame_are_refused(
    lane: str, parser: str, name: bytes
) -> None:
    data = HEAD + b"3\r\nabc\r\n0\r\nX: y\r\n" + name + b": 1\r\n\r\n" + get("/next")
    async with serving(**everything(lane), parser=parser) as served:
        for end in (len(data), len(data) - len(get("/next")) - 3):
            peer = await served.connect()
            peer.send(data[:end])
            await peer.writer.drain()
            peer.send(data[end:])
            raw = await peer.rest(PATIENCE)
            assert statuses(raw)[-1:] == [400] and raw.count(b"HTTP/1.1 ") == 1, raw
            peer.close()


@LANES
@PARSERS
@pytest.mark.parametrize("part", [b"X%d: y\r\n", b"0;a=%d"], ids=["trailers", "extension"])
async def test_what_is_no_body_within_a_body_is_not_endless(
    lane: str, parser: str, part: bytes
) -> None:
    async with serving(**everything(lane), parser=parser) as served:
        peer = await served.connect()
        peer.send(HEAD + b"3\r\nabc\r\n" + (b"0\r\n" if part[0:1] == b"X" else b""))
        await peer.writer.drain()
        for number in range(40_000):
            peer.send(part % number)
        raw = await peer.rest(PATIENCE)
        assert statuses(raw)[-1:] == [431] or statuses(raw)[-1:] == [400], raw
        peer.close()


@LANES
@PARSERS
@pytest.mark.parametrize("version, status", [
    ("1.2", 505), ("9.9", 505), ("2.0", 505), ("0.9", 505), ("1.1x", 400), ("11", 400),
])
async def test_other_versions(lane: str, parser: str, version: str, status: int) -> None:
    async with serving(**everything(lane), parser=parser) as served:
        assert statuses(await served.ask(get(version=version))) == [status]


@LANES
@PARSERS
async def test_long_lines(lane: str, parser: str) -> None:
    async with serving(**everything(lane), parser=parser) as served:
        for size, status in ((8000, 200), (8189, 200), (8190, 414), (60_000, 414),
                             (100_000, 414), (500_000, 414)):
            assert statuses(await served.ask(
                get("/" + "a" * size, "Connection: close"))) == [status], size
        # Where the head as a whole is too long, it is not the line's fault.
        fields = [f"X{n}: {'y' * 7000}" for n in range(20)]
        assert statuses(await served.ask(get("/", *fields))) == [431]


@LANES
@PARSERS
@pytest.mark.parametrize("target", ["http://host", "http://host?a=b", "http://host/?a=b"])
async def test_an_absolute_target_without_a_path(lane: str, parser: str, target: str) -> None:
    from apihour_http import Request, Routes

    routes, app = Routes(), web.Application()

    @routes.get("/")
    def direct(request: Request) -> str:
        return f"root {request.query_string}"

    async def hosted(request: web.Request) -> web.Response:
        return web.Response(text=f"root {request.query_string}")

    app.router.add_get("/", hosted)
    async with serving(*((routes,) if lane == "direct" else (None, app)), parser=parser) as served:
        peer = await served.connect()
        peer.send(get(target))
        answer = await peer.answer(PATIENCE)
        assert answer.body == (b"root a=b" if "?" in target else b"root ")
        peer.close()
