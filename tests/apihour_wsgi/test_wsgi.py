"""WSGI applications: environ, bodies both ways, threads, and what becomes of mistakes."""

import asyncio
import contextlib
import contextvars
import logging
import threading

import pytest
from apihour_wsgi import WSGIServer
from apihour_wsgi.adapter import plugin
from django.core.handlers.wsgi import WSGIHandler
from flask import Flask, Response, request

from apihour.plugins import Server
from tests.apihour_asgi.support import Served, get
from tests.apihour_http.support import wait_until

PATIENCE = 30.0
CLOSE = "Connection: close"


@contextlib.asynccontextmanager
async def served(app, **options):
    server = WSGIServer(app, **options)
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    try:
        yield Served(server, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await server.stop()


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"he", b"llo"]


def body_of(raw):
    return raw.partition(b"\r\n\r\n")[2]


async def environ_of(data, **options):
    seen = {}

    def app(environ, start_response):
        seen.update(environ, body=environ["wsgi.input"].read())
        return hello(environ, start_response)

    async with served(app, **options) as at:
        assert body_of(await at.ask(data)) == b"hello"
    return seen


# -- what is taken


async def asgi(scope, receive, send):
    pass


class Django:
    def __call__(self, environ, start_response):
        pass


class Answer:
    """An application that is a class (PEP 3333, the second example)."""

    def __init__(self, environ, start_response):
        pass

    def __iter__(self):
        yield b""


@pytest.mark.parametrize(("obj", "taken"), [
    (Answer, True), (lambda env, start: [], True), (lambda reader, writer: None, False),
    (hello, True), (Flask("x"), True), (WSGIHandler.__new__(WSGIHandler), True), (Django(), True),
    (Django, False), (asgi, False), (lambda: None, False), (lambda a, b: None, False),
    (None, False), ("text", False), (dict, False),
])
def test_accepts(obj, taken):
    assert plugin.accepts(obj, "stream") is taken
    assert plugin.accepts(obj, "datagram") is False


def test_adapt():
    server = plugin.adapt(hello, "stream")
    assert isinstance(server, Server) and server.protocol == "wsgi"
    assert plugin.adapt(server, "stream") is server


@pytest.mark.parametrize(("options", "error"), [
    ({"threads": 0}, "option threads=0: expected a whole number, at least 1"),
    ({"backlog": -1}, "option backlog=-1: expected a whole number, at least 0"),
    ({"buffer": "1M"}, "option buffer='1M': expected a whole number, at least 0"),
    ({"thread": 3}, "option 'thread': expected one of"),
])
def test_refuses_options(options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        WSGIServer(hello, **options)


def test_refuses_what_cannot_be_called():
    with pytest.raises(TypeError, match=r"WSGIServer\('main:app'\): expected a WSGI application"):
        WSGIServer("main:app")


# -- environ


async def test_environ():
    seen = await environ_of(get("/a%C3%A9%2Fb?q=%C3%A9", CLOSE, "Cookie: a=1", "Cookie: b=2",
                                "X-One: 1", "X-One: 2", "X_One: spoofed", "Proxy: evil"))
    assert seen["REQUEST_METHOD"] == "GET" and seen["SCRIPT_NAME"] == ""
    assert seen["PATH_INFO"] == "/aé/b".encode().decode("latin-1")
    assert seen["QUERY_STRING"] == "q=%C3%A9" and seen["RAW_URI"] == "/a%C3%A9%2Fb?q=%C3%A9"
    assert seen["HTTP_COOKIE"] == "a=1; b=2" and seen["HTTP_X_ONE"] == "1,2"
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1" and seen["wsgi.url_scheme"] == "http"
    assert seen["REMOTE_ADDR"] == "127.0.0.1" and seen["SERVER_NAME"] == "127.0.0.1"
    assert seen["SERVER_PORT"].isdigit() and seen["REMOTE_PORT"].isdigit()
    assert "CONTENT_LENGTH" not in seen and "CONTENT_TYPE" not in seen and "" not in seen
    assert seen["wsgi.multithread"] and seen["wsgi.multiprocess"] and not seen["wsgi.run_once"]


async def test_root_path():
    seen = await environ_of(get("/x%20y", CLOSE), root_path="/app/")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/app", "/x y")


def post(body, *headers, path="/"):
    head = get(path, *headers, f"Content-Length: {len(body)}").replace(b"GET", b"POST", 1)
    return head + body


@pytest.mark.parametrize("size", [0, 1, 70_000, 300_000])
@pytest.mark.parametrize("buffer", [0, 100_000])
async def test_bodies(size, buffer):
    body = bytes(i % 251 for i in range(size))
    seen = await environ_of(post(body, CLOSE, "Content-Type: x/y"), buffer=buffer)
    assert seen["body"] == body
    assert seen["CONTENT_LENGTH"] == str(size) and seen["CONTENT_TYPE"] == "x/y"


async def test_a_chunked_body():
    seen = await environ_of(get("/", CLOSE, "Transfer-Encoding: chunked").replace(b"GET", b"POST")
                            + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert seen["body"] == b"abcde" and seen["wsgi.input_terminated"]


async def test_lines_of_a_body_that_comes_slowly():
    lines = []

    def app(environ, start_response):
        lines.extend(environ["wsgi.input"])
        return hello(environ, start_response)

    async with served(app, buffer=0) as at:
        peer = await at.connect()
        peer.send(get("/", CLOSE, "Content-Length: 8").replace(b"GET", b"POST", 1) + b"a\nb")
        await wait_until(lambda: at.record["calls"] == 1)
        peer.send(b"b\nccc")
        assert body_of(await asyncio.wait_for(peer.reader.read(), PATIENCE)) == b"hello"
        peer.close()
    assert lines == [b"a\n", b"bb\n", b"ccc"]


async def test_slow_clients_hold_no_thread():
    async with served(hello, threads=1) as at:
        slow = [await at.connect() for _ in range(3)]
        for peer in slow:
            peer.send(get("/", "Content-Length: 8").replace(b"GET", b"POST", 1) + b"half")
        assert body_of(await at.ask(get("/", CLOSE))) == b"hello"
        assert at.record["calls"] == 0
        for peer in slow:
            peer.close()


# -- answers


def answering(pieces, headers=(), status="200 OK"):
    def app(environ, start_response):
        start_response(status, list(headers))
        return pieces() if callable(pieces) else pieces

    return app


@pytest.mark.parametrize(("app", "ends"), [
    (answering([b"hello"]), b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
    (answering(lambda: iter([b"he", b"", b"llo"])), b"chunked\r\nconnection: close\r\n\r\n"
     b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    (answering(lambda: iter([b"hello"]), [("Content-Length", "5")]),
     b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
    (answering(lambda: iter([b"he", b"llo"]), [("Content-Length", "5")]),
     b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
    (answering([]), b"content-length: 0\r\nconnection: close\r\n\r\n"),
    (answering([b""], status="204 No Content"), b"\r\nconnection: close\r\n\r\n"),
    (answering([b"x"], [("Connection", "keep-alive"), ("Transfer-Encoding", "chunked")]),
     b"content-length: 1\r\nconnection: close\r\n\r\nx"),
])
async def test_answers(app, ends):
    async with served(app) as at:
        raw = await at.ask(get("/", CLOSE))
    assert raw.startswith(b"HTTP/1.1 2") and raw.endswith(ends), raw


async def test_write():
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    async with served(app) as at:
        assert body_of(await at.ask(get("/", CLOSE))) == b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"


async def test_what_is_yielded_is_sent_before_more_is_asked_for():
    go = threading.Event()

    def pieces():
        yield b"first"
        assert go.wait(PATIENCE)
        yield b"second"

    async with served(answering(pieces)) as at:
        peer = await at.connect()
        peer.send(get("/", CLOSE))
        await asyncio.wait_for(peer.reader.readuntil(b"5\r\nfirst\r\n"), PATIENCE)
        go.set()
        assert await asyncio.wait_for(peer.reader.read(), PATIENCE) == b"6\r\nsecond\r\n0\r\n\r\n"
        peer.close()


async def test_code_behind_a_whole_answer_runs_and_holds_it_up_for_nobody():
    go, done = threading.Event(), []

    def pieces():
        yield b"hello"
        done.append(go.wait(PATIENCE))

    async with served(answering(pieces, [("Content-Length", "5")])) as at:
        assert body_of(await at.ask(get("/", CLOSE))) == b"hello"
        assert at.record["calls"] == 1
        go.set()
        await wait_until(lambda: at.record["calls"] == 0)
    assert done == [True]


async def test_close_is_called_once_whatever_happens():
    closed = []

    class Pieces:
        def __init__(self, fail):
            self.pieces = iter([b"a", b"b"])
            self.fail = fail

        def __iter__(self):
            return self

        def __next__(self):
            if self.fail:
                raise ValueError("broken")
            return next(self.pieces)

        def close(self):
            closed.append(self.fail)

    for fail in (False, True):
        async with served(answering(Pieces(fail))) as at:
            raw = await at.ask(get("/", CLOSE))
            assert raw.startswith(b"HTTP/1.1 500 " if fail else b"HTTP/1.1 200 ")
    assert closed == [False, True]


# -- mistakes


def raising(error):
    def app(environ, start_response):
        raise error

    return app


def forgetful(environ, start_response):
    return [b"x"]


def hasty(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def numeric(environ, start_response):
    start_response(200, [])
    return []


def split(environ, start_response):
    start_response("200 OK", [("X", "a\r\nSet-Cookie: b")])
    return [b""]


@pytest.mark.parametrize(("app", "told"), [
    (raising(ValueError("broken")), "broken"), (raising(SystemExit(3)), "SystemExit(3)"),
    (raising(StopIteration()), "StopIteration"),
    (forgetful, "without calling start_response"), (hasty, "a second time without exc_info"),
    (answering([], status="fine"), "status 'fine': expected like '200 OK'"),
    (numeric, "partition"), (split, "control characters"),
])
async def test_mistakes_are_500_and_logged(app, told, caplog):
    with caplog.at_level(logging.ERROR):
        async with served(app) as at:
            raw = await at.ask(get("/a", CLOSE))
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert "the WSGI application failed on GET '/a'" in caplog.text and told in caplog.text


async def test_exc_info_replaces_an_answer_that_was_not_sent():
    def app(environ, start_response):
        import sys
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("409 Conflict", [], sys.exc_info())
        return [b"sorry"]

    async with served(app) as at:
        raw = await at.ask(get("/", CLOSE))
    assert raw.startswith(b"HTTP/1.1 409 Conflict\r\n") and body_of(raw) == b"sorry"


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(caplog):
    def pieces():
        yield b"first"
        raise ValueError("broken")

    async with served(answering(pieces)) as at:
        raw = await at.ask(get("/", CLOSE))
    assert raw.endswith(b"5\r\nfirst\r\n") and "broken" in caplog.text


async def test_errors_are_logged_by_line(caplog):
    def app(environ, start_response):
        print("one\ntwo", file=environ["wsgi.errors"])
        environ["wsgi.errors"].write("three")
        environ["wsgi.errors"].flush()
        return hello(environ, start_response)

    async with served(app) as at:
        await at.ask(get("/", CLOSE))
    assert [record.message for record in caplog.records] == ["one", "two", "three"]


# -- threads


async def test_a_bounded_queue_and_503():
    go = threading.Event()

    def app(environ, start_response):
        assert go.wait(PATIENCE)
        return hello(environ, start_response)

    async with served(app, threads=2, backlog=1) as at:
        peers = [await at.connect() for _ in range(3)]
        for peer in peers:
            peer.send(get("/", CLOSE))
        await wait_until(lambda: at.record["calls"] == 3)
        assert at.record["waiting"] == 1 and at.record["threads"] == 2
        raw = await at.ask(get("/", CLOSE))
        assert raw.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in raw
        go.set()
        for peer in peers:
            assert body_of(await asyncio.wait_for(peer.reader.read(), PATIENCE)) == b"hello"
            peer.close()
        await wait_until(lambda: at.record["calls"] == 0)
        assert body_of(await at.ask(get("/", CLOSE))) == b"hello"


async def test_a_thousand_clients_that_leave_in_the_middle():
    closed = []

    class Pieces:
        def __iter__(self):
            while True:
                yield b"x" * 50_000

        def close(self):
            closed.append(1)

    async with served(answering(Pieces)) as at:
        for _ in range(20):
            peers = [await at.connect() for _ in range(50)]
            for peer in peers:
                peer.send(get("/"))
            for peer in peers[:25]:
                await asyncio.wait_for(peer.reader.readexactly(1), PATIENCE)
                peer.close()
            for peer in peers[25:]:
                peer.close()
        await wait_until(lambda: at.record["calls"] == 0)
    assert len(closed) == 1000


async def test_stop_lets_go_of_threads_that_wait_for_the_loop():
    ended = threading.Event()

    def pieces():
        try:
            while True:
                yield b"x" * 50_000
        finally:
            ended.set()

    async with served(answering(pieces)) as at:
        peer = await at.connect(limit=1)
        peer.send(get("/"))
        await asyncio.wait_for(peer.reader.readexactly(1), PATIENCE)
    assert await asyncio.to_thread(ended.wait, PATIENCE)
    peer.close()


async def test_context_variables_of_one_request_are_its_own():
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def app(environ, start_response):
        seen.append(variable.get())
        variable.set(1)
        return hello(environ, start_response)

    async with served(app, threads=1) as at:
        await at.ask(get() + get("/", CLOSE))
    assert seen == [0, 0]


async def test_a_websocket_is_refused():
    async with served(hello) as at:
        raw = await at.ask(get("/", "Connection: Upgrade", "Upgrade: websocket",
                               "Sec-WebSocket-Version: 13",
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    assert raw.startswith(b"HTTP/1.1 403 ")


# -- frameworks


async def test_flask():
    app = Flask("shop")

    @app.route("/items/<int:number>", methods=["POST"])
    def item(number):
        return {"number": number, "name": request.json["name"], "q": request.args["q"]}

    @app.route("/stream")
    def stream():
        return Response(iter(["a", "b"]), mimetype="text/plain")

    async with served(app) as at:
        body = b'{"name": "caf\xc3\xa9"}'
        raw = await at.ask(post(body, "Content-Type: application/json", path="/items/7?q=1")
                           + get("/stream") + get("/none", CLOSE))
    assert b'{"name":"caf\\u00e9","number":7,"q":"1"}' in raw
    assert b"1\r\na\r\n1\r\nb\r\n0\r\n" in raw and b"HTTP/1.1 404 NOT FOUND" not in raw
    assert raw.count(b"HTTP/1.1 404 Not Found") == 1
