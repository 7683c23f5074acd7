"""The extension: what it takes, what it leaves to the parser, and that nobody can tell."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from multidict import istr

from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Request, Routes, Stream
from apihour_http.aiohttp.host import AppHost
from apihour_http.received import Received
from apihour_http.response import Encoded
from apihour_http.speed import compiled

from . import streams

needed = pytest.mark.skipif(compiled is None, reason="the extension is not built, or left out")

TAKEN = [each for each in streams.GOOD if each.startswith(
    (b"GET /j HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /j?", b"GET /p", b"HEAD", b"OPTIONS", b"DELETE",
     b"GET /text", b"GET /l"))] + [
    streams.BROWSER, b"POST / HTTP/1.1\r\nHost: t:80\r\ncontent-length: 2\r\n\r\na\0",
    b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Keep-Alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: t\r\nConnection: cLose\r\n\r\n",
    b"GET /?%s HTTP/1.1\r\nHost: t\r\nX: \x80\xff\t.\r\nY:\r\n\r\n" % bytes(range(0x24, 0x7f)),
]
FIELDS = [
    b"Host: u", b"Transfer-Encoding: chunked", b"Connection: close ",
    b"Connection: clos\xc5", b"Connection: close, x", b"Connection: a, keep-alive",
    b"Connection: keep-alive ", b"Proxy-Connection: x", b"Upgrade: x", b"Expect: 100-continue",
    b"Content-Length: 1", b"Content-Length: +0", b"Content-Length: ", b"Content-Length: 0 ",
    b"Content-Length: 0000000000", b"Sec-WebSocket-Key1: x", b"Content-Encoding: gzip", b"X : y",
    b"TE: trailers",
    b" X: y", b"\tX: y", b"X", b": y", b"X: y\0", b"X: y\n", b"X: y\r",
    b"X: 1234567\x1f", b"X: \x7f",
    b"X: 12345678\x7f9", b"X: 12345678\x01", b"X\x80: y", b"X(: y", b"", b"te:",
]
HOSTS = [b"", b"a b", b"a,b", b"u@h", b"a:b", b"a:123456", b":1", b"[::1]", b"a ", b"a\t", b"a/",
         b"\xe9"]
LINES = [
    b"get / HTTP/1.1", b"BREW / HTTP/1.1", b"GET  / HTTP/1.1", b"GET /\t HTTP/1.1",
    b"GET /# HTTP/1.1",
    b"GET / HTTP/1.0", b"GET / HTTP/1.2", b"GET / HTTP/1.1 ", b"GET /", b"GET * HTTP/1.1",
    b"GET http://t/ HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /\x7f HTTP/1.1",
    b"CONNECT t:1 HTTP/1.1",
    b"\r\nGET / HTTP/1.1", b" GET / HTTP/1.1", b"GET / http/1.1", b"GET /\0 HTTP/1.1", b"GET",
]
LEFT = [
    *[b"GET / HTTP/1.1\r\nHost: t\r\n%s\r\n\r\n" % field for field in FIELDS],
    *[b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host for host in HOSTS],
    *[line + b"\r\nHost: t\r\n\r\n" for line in LINES],
    b"GET / HTTP/1.1\nHost: t\n\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: t\r\n\n",
    b"GET / HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n", b"",
    b"GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nuser-agent: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: t\r\nContent-Type: a\r\nContent-Type: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: t\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    b"GET /" + b"x" * 4094 + b" HTTP/1.1\r\nHost: t\r\n\r\n",
]


@needed
@pytest.mark.parametrize("data", TAKEN)
def test_plain_requests_are_taken_when_they_are_whole(data: bytes) -> None:
    method, target, head, fields = compiled.scan(data)
    assert data.startswith(b"%s %s HTTP/1.1\r\n" % (method.encode(), target))
    assert head == data.index(b"\r\n\r\n") + 4
    assert [name for name, _ in fields] == [
        line.partition(b":")[0] for line in data[:head].split(b"\r\n")[1:-2]]
    for size in range(len(data)):
        assert compiled.scan(data[:size]) is None
    assert compiled.scan(data + b"G") is None


@needed
@pytest.mark.parametrize("data", LEFT)
def test_what_is_not_certain_is_left_to_the_parser(data: bytes) -> None:
    assert compiled.scan(data) is None


@needed
def test_nobody_can_tell() -> None:
    """More of it: python -m tests.apihour_http.speed.streams --streams 1000000."""
    assert streams.differing(20260000, 1500) is None


TEXTS = [
    [], [(b"Host", b"t"), (b"X-oDD", b""), (b"x-odd", b" \t"), (b"X-Odd", b"a \tb \t ")],
    [(b"A", b"caf\xc3\xa9"), (b"A", b"\xff\xfe "), (b"B", b"\xed\xa0\x80\xf0\x9f\x98\x80")],
]


@needed
@pytest.mark.parametrize("fields", TEXTS)
def test_fields_become_the_texts_that_python_makes_of_them(
    fields: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, others = AppHost(web.Application()), AppHost(web.Application())
    for _ in range(2):  # with names that are new, and with those that are known
        said = names.decode(fields)
        with monkeypatch.context() as without:
            without.setattr("apihour_http.aiohttp.host.compiled", None)
            assert said == others.decode(fields)
        assert all(type(name) is istr and type(value) is str for name, value in said)


@needed
def test_fields_that_are_none_are_refused() -> None:
    for wrong in [[1], [(b"a",)], [(b"a", "b")], [("a", b"b")], [[b"a", b"b"]], ((b"a", b"b"),)]:
        with pytest.raises(TypeError):
            compiled.texts(wrong, {b"a": "a"})
    with pytest.raises(TypeError):
        compiled.texts([])
    with pytest.raises(TypeError):
        compiled.texts([], [])
    with pytest.raises(KeyError):
        compiled.texts([(b"a", b"b")], {})


@needed
@pytest.mark.parametrize("fields", [*TEXTS, [(bytes(range(256)), bytes(range(256)) + b" \t")]])
def test_fields_are_lowered_as_by_python(fields: list[tuple[bytes, bytes]]) -> None:
    assert compiled.lowered(fields) == [
        (name.lower(), value.rstrip(b" \t")) for name, value in fields]
    assert compiled.lowered([(b"Q", b"")]) == [(b"q", b"")]
    assert bytes([81]) == b"Q"  # one for all: it must not be changed in place
    for wrong in [1, (), [1], [(b"a",)], [(b"a", "b")], [("a", b"b")], [[b"a", b"b"]]]:
        with pytest.raises(TypeError):
            compiled.lowered(wrong)


PARTS = [b"a", b"b", b"ab", b"=", b"&", b"?", b"&a=", b"a=1", b"%", b"+", b"\xe9", b"\x7f",
         *[b"a=", b"&"] * 4]


@needed
def test_a_parameter_is_what_the_query_says() -> None:
    """In both forms; where it is said to be decoded first, that is for a reason."""
    draw = random.Random(1)
    pure, found = Received(), 0
    for _ in range(3000):
        query = b"".join(draw.choices(PARTS, k=draw.randrange(12)))
        request = Request()
        request.target = pure.target = b"/a=p" + draw.choice([b"", b"?"]) + query
        for name in (b"a", b"ab", b"b"):
            value = request.parameter(name)
            assert value == pure.parameter(name) and type(value) is type(pure.parameter(name))
            if value is False:
                assert re.search(rb"[%+\x80-\xff]", query)
            else:
                every = request.query.getall(name.decode(), [None])
                assert value == every[-1], request.target
                found += value is not None
    assert found > 500
    request.target = b"/?" + b"&".join([b"a=1"] * 65)
    assert request.parameter(b"a") is False


def test_it_can_be_left_out() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import apihour_http.speed as s; print(s.compiled)"],
        env={**os.environ, "APIHOUR_NO_EXTENSIONS": "1"}, capture_output=True, text=True,
        check=True)
    assert said.stdout.strip() == "None"


async def connected(routes: Routes, **options: Any) -> tuple[HTTPServer, Any, streams.Wire]:
    server = HTTPServer(routes, **options)
    await server.start()
    lane, wire = server.stream(), streams.Wire()
    lane.connection_made(wire)
    return server, lane, wire


GET = b"GET /%s HTTP/1.1\r\nHost: t\r\nX: 1\r\nx: 2\r\n\r\n"


@needed
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_the_parser_sees_only_what_is_not_plain(parser: str) -> None:
    routes = Routes()
    routes.get("/{name}")(lambda request: {"name": request.match_info.pop("name")})
    server, lane, wire = await connected(routes, parser=parser)
    fed: list[bytes] = []
    assert lane.intake.parser is None  # it is made when there is something for it
    lane.intake.feed_first(b"")
    feed = lane.intake.feed
    lane.intake.feed = lambda data: (fed.append(data), feed(data))
    chunked = b"GET /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    reads = [GET % b"a", GET % b"a", chunked, GET % b"b", (GET % b"d")[:9], (GET % b"d")[9:],
             GET % b"e", GET % b"f" + GET % b"g", GET % b"f" + chunked, GET % b"h"]
    for data in reads:
        lane.data_received(data)
    assert fed == [reads[2], reads[4], reads[5], reads[8]]
    bodies = wire.sent.split(b"\r\n\r\n{")[1:]
    assert [body[:10] for body in bodies] == [b'"name":"%c"' % each for each in b"aacbdefgfch"]
    assert lane.conn.requests == server.statistics()["requests"] == 11
    lane.connection_lost(None)
    await server.stop()


def one_after_the_other() -> tuple[Routes, list[str]]:
    """Routes that note which of them were begun."""
    routes, begun = Routes(), []

    @routes.get("/end")
    def end(request: Request) -> Any:
        begun.append("end")
        request.transport.close()
        return "end"

    @routes.get("/later")
    async def later(request: Request) -> Any:
        begun.append("later")
        return "later"

    @routes.get("/{name}")
    def note(request: Request) -> Any:
        begun.append(request.match_info["name"])
        return begun[-1]

    return routes, begun


@needed
async def test_requests_in_one_read_are_all_begun_without_a_parser() -> None:
    routes, begun = one_after_the_other()
    server, lane, wire = await connected(routes)
    lane.data_received(b"".join([GET % b"%d" % number for number in range(31)])
                       + LAST % b"last")
    names = [*map(str, range(31)), "last"]
    assert begun == names and lane.intake.parser is None and not wire.is_open
    answers = bytes(wire.sent).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2].decode() for answer in answers] == names
    assert [b"Connection: close" in answer for answer in answers] == [False] * 31 + [True]
    lane.connection_lost(None)
    await server.stop()


@pytest.mark.parametrize("names, options", [
    (b"a b end c d", {}), (b"a later b end c", {}), (b"a b c d e f", {"budget": 3}),
    (b"a b c d e f", {"budget": 9})])
async def test_requests_in_one_read_are_begun_until_it_ends(
    names: bytes, options: dict[str, Any]
) -> None:
    routes, begun = one_after_the_other()
    server, lane, _ = await connected(routes, **options)
    lane.data_received(b"".join([GET % name for name in names.split()]))
    if "budget" in options:
        assert len(begun) in (6, options["budget"] + 1)  # the others have their turn
    for _ in range(9):
        await asyncio.sleep(0)
    assert " ".join(begun) == names.decode().partition("end")[0].strip() + " end" * (
        b"end" in names)
    lane.connection_lost(None)
    await server.stop()


POST = b"POST /a?b HTTP/1.1\r\nHost: t\r\nX: %d\r\nContent-Length: %d\r\n\r\n%s"


async def read_aiohttp(request: web.Request) -> web.Response:
    return web.Response(body=request.path_qs.encode() + await request.read())


async def read_asgi(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"/a?b" + message["body"]})


def hosted(kind: str, parser: str) -> Any:
    if kind == "asgi":
        return ASGIServer(read_asgi, lifespan="off", parser=parser)
    app = web.Application()
    app.router.add_post("/a", read_aiohttp)
    return HTTPServer(app=app, parser=parser)


@needed
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
@pytest.mark.parametrize("kind", ["aiohttp", "asgi"])
async def test_an_application_has_whole_bodies_without_a_parser(kind: str, parser: str) -> None:
    server = hosted(kind, parser)
    await server.start()
    lane, wire = server.stream(), streams.Wire()
    lane.connection_made(wire)
    for number, body in enumerate((b"one", b"two", b"", b"three")):
        lane.data_received(POST % (number, len(body), body))
        for _ in range(5):
            await asyncio.sleep(0)
    assert lane.intake.parser is None
    # In two reads, and beyond what is read at a stretch: the parser's.
    data = POST % (9, 20000, b"x" * 20000)
    for part in (data[:100], data[100:]):
        lane.data_received(part)
    for _ in range(9):
        await asyncio.sleep(0)
    assert lane.intake.parser is not None
    assert wire.sent.count(b" 200 ") == 5
    bodies = [piece.partition(b"HTTP/")[0] for piece in bytes(wire.sent).split(b"/a?b")[1:]]
    assert bodies == [b"one", b"two", b"", b"three", b"x" * 20000]
    lane.connection_lost(None)
    await server.stop()


LAST = b"GET /%s HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("path", [b"wait", b"app", b"stream"])
async def test_nothing_is_begun_behind_a_last_request(path: bytes) -> None:
    begun: list[str] = []
    routes, app, go_on = Routes(), web.Application(), asyncio.Event()

    @routes.get("/wait")
    async def wait(request: Request) -> Any:
        begun.append(request.path)
        await go_on.wait()
        return "done"

    @routes.get("/stream")
    def stream(request: Request) -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            await go_on.wait()
            yield b"done"
        begun.append(request.path)
        return Stream(pieces())

    async def handle(request: web.Request) -> web.Response:
        begun.append(request.path)
        await go_on.wait()
        return web.Response(text="done")

    app.router.add_get("/app", handle)
    server, lane, wire = await connected(routes, app=app)
    lane.data_received(LAST % path)
    await asyncio.sleep(0)
    lane.data_received(b"\r\n")  # which is no request
    assert lane.state.name == "PARSING"
    lane.data_received(GET % path)
    assert lane.state.name == "DISCARDING"
    lane.data_received(GET % path)
    go_on.set()
    for _ in range(9):
        await asyncio.sleep(0)
    assert wire.sent.count(b"HTTP/1.1 200 ") == wire.sent.count(b"HTTP/1.1 ") == 1
    assert b"done" in wire.sent and b"close" in wire.sent and not wire.is_open
    assert begun == [f"/{path.decode()}"]
    assert server.statistics()["refused"] == 1
    lane.connection_lost(None)
    await server.stop()


async def test_a_request_has_its_own_values_however_it_was_read() -> None:
    routes, kept = Routes(), []
    routes.get("/{name}")(lambda request: kept.append(request) or {})
    server, lane, _ = await connected(routes)
    for _ in range(2):
        lane.data_received(GET % b"a")
    lane.connection_lost(None)
    await server.stop()
    one, other = kept
    one.match_info["more"] = 1
    assert other.match_info == {"name": "a"}
    assert other.raw_headers == [(b"Host", b"t"), (b"X", b"1"), (b"x", b"2")]
    assert other.raw_headers is other.raw_headers
    assert other.headers.getall("X") == ["1", "2"]
    assert (other.verb, other.target, other.body) == (b"GET", b"/a", b"")
    assert (other.keep, other.modern, other.plain) == (True, True, True)
    assert type(other) is Request
    other.raw_headers = []
    other.match_info = {"new": 2}
    assert (other.raw_headers, other.match_info) == ([], {"new": 2})


async def test_a_field_is_found_without_the_others() -> None:
    routes, found = Routes(), []

    @routes.get("/{name}")
    def look(request: Request) -> Any:
        names = b"host", b"x", b"y", b"", b"hos", b"host:"
        one = [request.field(name) for name in names]
        assert request.raw_headers
        found.append((one, [request.field(name) for name in names]))
        return {}

    server, lane, wire = await connected(routes)
    lane.data_received(GET % b"a")
    lane.connection_lost(None)
    await server.stop()
    assert b" 200 " in wire.sent
    assert found == [([b"t", b"1", None, None, None, None],) * 2]


async def test_a_body_that_is_streamed_is_left_to_its_endpoint() -> None:
    routes, seen = Routes(), []

    @routes.post("/", stream_body=True)
    async def take(request: Request) -> Any:
        seen.append([piece async for piece in request.stream()])
        return {}

    server, lane, wire = await connected(routes)
    for body in (b"ab", b""):
        lane.data_received(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body), body))
        for _ in range(5):
            await asyncio.sleep(0)
    lane.connection_lost(None)
    await server.stop()
    assert wire.sent.count(b" 200 ") == 2
    assert [b"".join(each) for each in seen] == [b"ab", b""]


async def test_nothing_is_left_of_a_connection() -> None:
    class Result(dict[str, int]):
        pass

    routes, results = Routes(), []

    @routes.get("/{name}")
    def named(request: Request) -> Any:
        result = Result()
        results.append(weakref.ref(result))
        request["result"] = result
        return {}

    @routes.get("/")
    async def later(request: Request) -> Any:
        return named(request)

    server, lane, _ = await connected(routes)
    gone = weakref.ref(lane.answers.queue)
    gc.collect()
    gc.disable()
    try:
        for data in (GET % b"a", GET % b"", GET % b"b"):
            lane.data_received(data)
            for _ in range(3):
                await asyncio.sleep(0)
        lane.connection_lost(None)
        del lane
        assert gone() is None
        assert [each() for each in results] == [None] * 3
    finally:
        gc.enable()
        await server.stop()


async def test_what_an_endpoint_raises_is_answered_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = Routes()

    @routes.get("/{name}")
    def broken(request: Request) -> Any:
        raise KeyError(request.match_info["name"])

    server, lane, wire = await connected(routes)
    lane.data_received(GET % b"a")
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert "KeyError: 'a'" in caplog.text
    assert lane.ready and lane.answers.inline is None
    lane.connection_lost(None)
    await server.stop()


@needed
async def test_a_fault_on_the_way_is_refused_as_the_parser_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = Routes()
    routes.get("/{name}")(lambda request: {})
    server, lane, wire = await connected(routes)
    del lane.conn.requests  # a row that is none
    lane.data_received(GET % b"a")
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert "HTTP parser callback failed" in caplog.text
    lane.connection_lost(None)
    await server.stop()


@needed
def test_its_types_refuse_what_they_cannot_use() -> None:
    good: dict[str, Any] = dict(
        plain={}, known={}, resolve=None, now=None, counters=compiled.Tally(), dumps=None, log=None,
        parsing=None, request=Request, encoded=Encoded, max_head=1, max_line=1, max_fields=1,
        max_body=1, slow=1.0, has_app=False, budget=1)
    compiled.Plan(**good)
    wrong = {"plain": [], "counters": 1, "request": int, "encoded": 1, "max_head": -1, "slow": ""}
    for name, value in wrong.items():
        with pytest.raises((TypeError, ValueError)):
            compiled.Plan(**{**good, name: value})
    with pytest.raises(TypeError):
        compiled.scan("text")
    lane = compiled.Lane()
    with pytest.raises(TypeError):
        lane.answer(1, 2)
    with pytest.raises(AttributeError):
        lane.answer(compiled.Received(), {})
    with pytest.raises(AttributeError):
        compiled.Received().raw_headers  # noqa: B018
    with pytest.raises(TypeError):
        compiled.Received().parameter("text")
    with pytest.raises(AttributeError):
        lane.data_received(b"")
