"""ASGI over HTTP/1: scopes, bodies, answers, and what becomes of mistakes."""

import asyncio
import logging
import re

import pytest

from tests.apihour_http.support import wait_until

from .support import PATIENCE, body_of, get, http, served

PARSERS = pytest.mark.parametrize("parser", ["httptools", "aiohttp"])


def started(status=200, headers=(), **more):
    return {"type": "start", "status": status, "headers": list(headers), **more}


def body(data=b"", more=False):
    return {"type": "body", "body": data, "more_body": more}


def without_date(raw):
    return re.sub(rb"date: [^\r]*\r\n", b"", raw)


async def one(app, data, **options):
    async with served(app, **options) as at:
        return without_date(await at.ask(data))


CLOSE = "Connection: close"


@pytest.mark.parametrize(("messages", "request_", "expected"), [
    ([started(), body(b"hello")], get("/", CLOSE),
     b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"),
    ([started(headers=[(b"content-length", b"5")]), body(b"he", True), body(b"llo")],
     get("/", CLOSE),
     b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"),
    ([started(), body(b"he", True), body(b"", True), body(b"llo")], get("/", CLOSE),
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
     b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ([started(), body(b"he", True), body(b"llo")], get(version="1.0"),
     b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"),
    ([started(headers=[(b"content-length", b"5")]), body(b"hello")],
     get("/", CLOSE).replace(b"GET", b"HEAD", 1),
     b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"),
    ([started(204, [(b"content-length", b"0")]), body()], get("/", CLOSE),
     b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
    ([started(304, [(b"content-length", b"7")]), body(b"ignored")], get("/", CLOSE),
     b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\nconnection: close\r\n\r\n"),
    # What the application says of the connection is understood, not passed on.
    ([started(headers=[(b"Connection", b"x, Close"), (b"X", b"y")]), body()], get(),
     b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    ([started(trailers=True), body(b"x"),
      {"type": "trailers", "headers": [(b"a", b"1")], "more_trailers": True},
      {"type": "trailers", "headers": [(b"b", b"2")]}], get("/", CLOSE, "TE: trailers"),
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
     b"1\r\nx\r\n0\r\na: 1\r\nb: 2\r\n\r\n"),
], ids=["whole", "length", "chunked", "http10", "head", "204", "304", "close", "trailers"])
async def test_framing(messages, request_, expected):
    assert await one(http(*messages), request_) == expected


@pytest.mark.parametrize(("messages", "error"), [
    ([body()], "message 'http.response.body': expected 'http.response.start'"),
    ([started(), started()], "message 'http.response.start': expected 'http.response.body'"),
    ([started(99), body()], "status 99: expected 200 to 599"),
    ([started(headers=[(b"a", b"b\r\nc: d")]), body()], "control characters are not allowed"),
    ([started(headers=[(b"a b", b"c")]), body()], "header name b'a b': expected bytes, a token"),
    ([started(headers=[("a", "b")]), body()], "header name 'a': expected bytes, a token"),
    ([started(headers=[(b"content-length", b"x")]), body()], "content-length b'x': expected one"),
    ([started(headers=[(b"transfer-encoding", b"gzip")]), body()], "expected chunked"),
    ([started(headers=[(b"content-length", b"2")]), body(b"abc")],
     "a body of 3 bytes: expected 2, its Content-Length"),
    ([started(headers=[(b"content-length", b"2")]), body(b"a")],
     "a body of 1 bytes: expected 2, its Content-Length"),
    ([], "returned from GET '/' without a complete answer"),
    ([started()], "returned from GET '/' without a complete answer"),
])
async def test_mistakes_before_anything_was_sent_are_a_500(messages, error, caplog):
    raw = await one(http(*messages), get())
    assert raw.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert raw.endswith(b"connection: close\r\n\r\nInternal Server Error")
    assert error in caplog.text


@pytest.mark.parametrize(("messages", "sent", "error"), [
    ([started(), body(b"abc", True)], b"3\r\nabc\r\n", "without a complete answer"),
    ([started(headers=[(b"content-length", b"5")]), body(b"abc", True), body()], b"abc",
     "a body of 3 bytes: expected 5, its Content-Length"),
    ([started(headers=[(b"content-length", b"5")]), body(b"abc", True), body(b"def", True)],
     b"abc", "a body of 6 bytes so far: expected 5, its Content-Length"),
])
async def test_mistakes_after_that_end_the_connection(messages, sent, error, caplog):
    raw = await one(http(*messages), get() + get())
    assert raw.partition(b"\r\n\r\n")[2] == sent
    assert error in caplog.text


async def test_messages_after_the_answer_are_an_error_and_harm_nobody(caplog):
    async with served(http(started(), body(b"ok"), body(b"more"))) as at:
        peer = await at.connect()
        for _ in range(2):
            peer.send(get())
            assert (await peer.answer(PATIENCE)).body == b"ok"
        peer.close()
    assert caplog.text.count("after the answer was complete") >= 2


async def test_scope():
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await http(started(), body())(scope, receive, send)

    async with served(app, root_path="/api/") as at:
        await at.ask(b"GET /a%20b/%C3%A9?q=%20x HTTP/1.1\r\nHost: h\r\nX-Twice: 1 \r\n"
                     b"x-twice: 2\r\nConnection: close\r\n\r\n")
        assert {k: v for k, v in seen.items() if k not in ("client", "server", "asgi")} == {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http",
            "root_path": "/api", "path": "/api/a b/é", "raw_path": b"/api/a%20b/%C3%A9",
            "query_string": b"q=%20x", "state": {},
            "headers": [(b"host", b"h"), (b"x-twice", b"1"), (b"x-twice", b"2"),
                        (b"connection", b"close")]}
        assert seen["server"] == ("127.0.0.1", at.port) and seen["client"][0] == "127.0.0.1"
        assert seen["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        for target, path, query in ((b"http://h/x?y", "/api/x", b"y"), (b"http://h", "/api/", b""),
                                    (b"http://h?y=/z", "/api/", b"y=/z"),
                                    (b"/x#part?no", "/api/x", b"")):
            await at.ask(b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % target)
            assert (seen["path"], seen["query_string"]) == (path, query), target


async def test_what_an_application_does_to_its_scope_is_its_own():
    async def app(scope, receive, send):
        names = b",".join(name for name, _ in scope["headers"])
        scope["headers"].append((b"added", b""))
        scope["state"]["added"] = scope["asgi"]["added"] = True
        scope["path"] += "/mounted"
        assert scope["path"].count("mounted") == 1
        await http(started(), body(names))(scope, receive, send)

    async with served(app) as at:
        peer = await at.connect()
        for _ in range(4):  # the same bytes: a request that is known again
            peer.send(get())
            assert (await peer.answer(PATIENCE)).body == b"host"
        peer.close()


@PARSERS
async def test_an_upgrade_to_ignore_and_a_body(parser):
    async def app(scope, receive, send):
        await http(started(), body(await body_of(receive)))(scope, receive, send)

    raw = await one(app, b"POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                         b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
                         b"Content-Length: 5\r\n\r\nhello" + get("/", CLOSE), parser=parser)
    assert raw.count(b"HTTP/1.1 200 OK") == 2 and b"hello" in raw


@PARSERS
async def test_100_continue_comes_when_the_application_asks(parser):
    asked, go = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        asked.set()
        await go.wait()
        text = await body_of(receive) if scope["path"] == "/read" else b"unread"
        await http(started(), body(text))(scope, receive, send)

    head = b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    async with served(app, parser=parser) as at:
        peer = await at.connect()
        peer.send(head % b"/read")
        await asyncio.wait_for(asked.wait(), PATIENCE)
        assert not peer.reader._buffer
        go.set()
        assert (await peer.answer(PATIENCE)).status == 100
        peer.send(b"hello")
        answer = await peer.answer(PATIENCE)
        assert (answer.status, answer.body) == (200, b"hello")
        # Unread, its client may send the body or leave it: nothing can follow (RFC 9110 10.1.1).
        peer.send(head % b"/unread")
        answer = await peer.answer(PATIENCE)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await peer.rest(PATIENCE) == b""


@PARSERS
async def test_pipelined_requests_are_answered_in_order(parser):
    async def app(scope, receive, send):
        await asyncio.sleep(0.01 * (4 - int(scope["path"][1:]) % 4))
        await http(started(), body(scope["raw_path"]))(scope, receive, send)

    async with served(app, parser=parser) as at:
        peer = await at.connect()
        peer.send(b"".join(get(f"/{n}") for n in range(20)))
        assert [int((await peer.answer(PATIENCE)).body[1:]) for _ in range(20)] == list(range(20))
        peer.close()


@PARSERS
async def test_a_body_that_is_not_read_loses_no_next_request(parser):
    async with served(http(started(), body(b"early")), parser=parser) as at:
        peer = await at.connect()
        for size in (10, 20_000, 200_000):
            peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
            answer = await peer.answer(PATIENCE)
            assert (answer.body, answer.headers.get("connection")) == (b"early", None)
            peer.send(b"x" * size)
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n")
        assert (await peer.answer(PATIENCE)).headers["connection"] == "close"
        peer.close()


async def test_a_client_that_closes_its_side_is_answered():
    go = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/waits":
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        text = await body_of(receive)
        await go.wait()
        await http(started(), body(text, True), body(b"!"))(scope, receive, send)

    async with served(app) as at:
        peer = await at.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        peer.writer.write_eof()
        await wait_until(lambda: at.record["tasks"] == 1, PATIENCE)
        go.set()
        raw = await peer.rest(PATIENCE)
        assert raw.endswith(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
        # Who waits for its client to leave is told; nothing is left of it.
        peer = await at.connect()
        peer.send(get("/waits"))
        await wait_until(lambda: at.record["tasks"] == 1, PATIENCE)
        peer.writer.write_eof()
        assert await at_end(peer) == b""
        await wait_until(lambda: at.record["tasks"] == at.record["connections"] == 0, PATIENCE)
        assert at.record["responses"] == {"2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0}


async def at_end(peer):
    """What still comes, by a close or by a reset."""
    try:
        return await peer.rest(PATIENCE)
    except ConnectionResetError:
        return b""


async def test_a_client_that_leaves_is_told_to_the_application(caplog):
    caplog.set_level(logging.DEBUG)
    told = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 10000, "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            told.append(str(error))
            told.append(await receive())
            raise

    async with served(app) as at:
        peer = await at.connect()
        peer.send(get())
        await peer.reader.readexactly(1000)
        peer.writer.transport.abort()
        await wait_until(lambda: at.record["tasks"] == 0, PATIENCE)
    assert told == ["the client has left", {"type": "http.disconnect"}]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]  # nobody's mistake


async def test_work_behind_the_answer_holds_up_nothing_and_is_waited_for():
    go, done = asyncio.Event(), []

    async def app(scope, receive, send):
        await http(started(), body(b"ok"))(scope, receive, send)
        assert await receive() == {"type": "http.disconnect"}
        await go.wait()
        done.append(scope["path"])

    async with served(app) as at:
        peer = await at.connect()
        for path in ("/1", "/2"):
            peer.send(get(path))
            assert (await peer.answer(PATIENCE)).body == b"ok"
        peer.close()
        assert at.record["tasks"] == 2
        loop = asyncio.get_running_loop()
        drain = asyncio.ensure_future(at.server.drain(loop.time() + PATIENCE))
        await wait_until(lambda: at.record["connections"] == 0, PATIENCE)
        assert not drain.done()
        go.set()
        await asyncio.wait_for(drain, PATIENCE)
    assert done == ["/1", "/2"]


async def test_routes_and_paths_for_those_who_look():
    go, begun = asyncio.Event(), asyncio.Event()

    class Route:
        path = "/users/{id}"

    async def app(scope, receive, send):
        scope["route"] = Route
        begun.set()
        await go.wait()
        await http(started(), body())(scope, receive, send)

    async with served(app) as at:
        peer = await at.connect()
        peer.send(get("/users/7?token=secret"))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        (lane,) = at.server._http.connections
        told = lane.activity()
        assert (told["state"], told["path"], told["route"]) == (
            "request", "/users/7", "GET /users/{id}")
        go.set()
        await peer.answer(PATIENCE)
        assert lane.activity()["state"] == "idle"
        peer.close()


@pytest.mark.parametrize("started_before", [False, True])
@pytest.mark.parametrize(("rest", "status"), [(b"", b"408"), (b"zz\r\n", b"400")])
async def test_a_body_that_was_cut_is_not_answered_as_if_it_were_whole(
        rest, status, started_before, caplog):
    async def careless(scope, receive, send):
        if started_before:
            await send({"type": "http.response.start", "status": 200})
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if not started_before:
            await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"stored"})

    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n"
    answer = await one(careless, head + rest, body_timeout=0.2, body_rate=0.0)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b"connection: close" in answer.lower()
    assert b"stored" not in answer
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]  # its client's mistake
