"""Clients of HTTP/2 that say with their requests that nothing more will come."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiohttp import web

from apihour_asgi import ASGIServer
from apihour_http import SSE, HTTPServer, Routes
from apihour_http.connection.connection import UnhostedRow
from apihour_http.http2.multiplexer import HTTP2Connection
from tests.apihour_http.support import Served, serving, wait_until
from tests.certificates import Authority

from .support import PATIENCE, PREFACE, Client, connected, frame, head

# :method POST, :scheme http, :path /, :authority x
POST = b"\x83\x86\x84\x41\x01x"


class Gate:
    """Endpoints of each kind that wait for it, and what became of them."""

    def __init__(self):
        self.event = asyncio.Event()
        self.begun, self.fates = [], []

    async def wait(self):
        self.begun.append("")
        try:
            await self.event.wait()
            self.fates.append("done")
        except asyncio.CancelledError:
            self.fates.append("cancelled")
            raise

    def routes(self):
        routes = Routes()

        @routes.get("/direct")
        async def direct(request):
            await self.wait()
            return "answer"

        @routes.post("/up", stream_body=True)
        async def upload(request):
            pieces = [piece async for piece in request.stream()]
            await self.wait()
            return b"".join(pieces)

        @routes.get("/big")
        async def big(request):
            await self.wait()
            return bytes(100_000)

        @routes.get("/feed")
        def feed(request):
            async def events():
                yield {"n": 1}
                await self.wait()
            return SSE(events())

        return routes

    def app(self, **options):
        app = web.Application(**options)

        async def hosted(request):
            await request.read()
            await self.wait()
            return web.Response(text="answer")

        app.router.add_route("*", "/hosted", hosted)
        return app

    async def asgi(self, scope, receive, send):
        messages = [await receive(), await receive()]
        assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]
        await self.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


@pytest.fixture
def gate():
    return Gate()


async def half_closed(s, client, *paths):
    """Ask, send the end, and wait until it has come; the numbers of the requests are returned."""
    numbers = [client.ask("GET", path) for path in paths]
    client.end()
    await wait_until(lambda: all(
        isinstance(one, HTTP2Connection) and one.is_at_end for one in s.server.connections
    ), PATIENCE)
    return numbers


@pytest.mark.parametrize("path", ["/direct", "/hosted"])
@pytest.mark.parametrize("count", [1, 3])
async def test_the_answers_come(gate, path, count):
    async with serving(gate.routes(), gate.app()) as s, connected(s) as client:
        numbers = await half_closed(s, client, *[path] * count)
        gate.event.set()
        for number in numbers:
            assert (await client.reply(number)).body == b"answer"
        assert await client.closed() == (numbers[-1], 0)
        await wait_until(lambda: not s.server.connections, PATIENCE)


async def test_an_application_of_asgi_is_told_and_answers(gate):
    server = ASGIServer(gate.asgi, lifespan="off")
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    s = Served(server._http, listener)
    try:
        async with connected(s) as client:
            [number] = await half_closed(s, client, "/")
            await wait_until(lambda: gate.begun, PATIENCE)
            gate.event.set()
            assert (await client.reply(number)).body == b"answer"
            assert await client.closed() == (number, 0)
    finally:
        listener.close()
        await server.stop()


async def test_what_is_not_whole_is_given_up_and_the_rest_is_answered(gate):
    async with serving(gate.routes(), gate.app()) as s, connected(s) as client:
        upload = client.ask("POST", "/up", body=b"abc", ends=False)
        hosted = client.ask("POST", "/hosted", body=b"abc", ends=False)
        kept = client.ask("POST", "/up", body=b"whole")
        client.raw(frame(1, 4, kept + 2, POST)[:12])
        await half_closed(s, client)
        await wait_until(lambda: s.server.statistics()["in_flight"] == 1, PATIENCE)
        gate.event.set()
        assert (await client.reply(kept)).body == b"whole"
        assert (await client.closed())[1] == 0
        assert not client.replies[upload].ended and not client.replies[hosted].ended
    assert gate.fates == ["done"]


async def test_a_feed_has_no_end_and_is_given_up(gate):
    async with serving(gate.routes()) as s, connected(s) as client:
        number = client.ask("GET", "/feed")
        await client.until(lambda: client.replies[number].body)
        client.end()
        await client.closed()
        await wait_until(lambda: not s.server.connections, PATIENCE)
        await wait_until(lambda: gate.fates == ["cancelled"], PATIENCE)


async def test_an_idle_one_is_closed(gate):
    async with serving(gate.routes()) as s, connected(s) as client:
        await client.until(lambda: client.settings)
        client.end()
        await client.closed()
        await wait_until(lambda: not s.server.connections, PATIENCE)


async def test_a_window_that_nobody_can_open_any_more_ends_its_stream(gate):
    async with (serving(gate.routes(), write_timeout=0.2) as s,
                connected(s, acknowledges=False) as client):
        [number] = await half_closed(s, client, "/big")
        gate.event.set()
        assert (await client.reply(number)).reset == 8
        assert await client.closed() == (number, 0)


async def test_who_asks_for_cancellation_gets_it(gate):
    async with serving(gate.routes(), cancel_on_disconnect=True) as s, connected(s) as client:
        client.ask("GET", "/direct")
        await wait_until(lambda: gate.begun, PATIENCE)
        client.end()
        await client.closed()
        await wait_until(lambda: gate.fates == ["cancelled"], PATIENCE)


async def test_an_application_that_cancels_its_handlers_does(gate):
    app = gate.app(handler_args={"handler_cancellation": True})
    async with serving(gate.routes(), app) as s, connected(s) as client:
        client.ask("GET", "/hosted")
        number = client.ask("GET", "/direct")
        await wait_until(lambda: len(gate.begun) == 2, PATIENCE)
        client.end()
        await wait_until(lambda: gate.fates == ["cancelled"], PATIENCE)
        gate.event.set()
        assert (await client.reply(number)).body == b"answer"
        await client.closed()


class Wire(asyncio.Transport):
    """A transport in memory; it is read on as a socket of asyncio's is, whatever is asked."""

    def __init__(self):
        super().__init__()
        self.sent, self.is_open = b"", True

    def write(self, data):
        self.sent += data

    def close(self):
        self.is_open = False

    abort = close
    pause_reading = resume_reading = write_eof = lambda self: None
    can_write_eof = lambda self: True  # noqa: E731
    is_closing = lambda self: not self.is_open  # noqa: E731
    get_write_buffer_size = lambda self: 0  # noqa: E731


@pytest.mark.parametrize("is_paused", [False, True])
async def test_frames_that_were_left_for_a_later_turn(gate, monkeypatch, is_paused):
    """The end comes with more frames than a turn has time for: all of them are answered."""
    monkeypatch.setattr("apihour_http.http2.multiplexer._BUDGET", -1.0)
    server = HTTPServer(gate.routes())
    await server.start()
    wire, connection = Wire(), HTTP2Connection(server.service, UnhostedRow())
    connection.connection_made(wire)
    block = b"\x82\x86\x04\x07/direct\x41\x01x"
    connection.data_received(PREFACE + frame(4, 0, 0) + b"".join(
        head(number, block) for number in range(1, 21, 2)))
    assert connection.eof_received()
    if is_paused:
        connection.pause_writing()
        await asyncio.sleep(0)
        connection.resume_writing()
    await wait_until(lambda: len(gate.begun) == 10, PATIENCE)
    gate.event.set()
    await wait_until(lambda: not wire.is_open, PATIENCE)
    assert wire.sent.count(b"answer") == 10
    assert wire.sent[-17:-8] == frame(7, 0, 0, bytes(8))[:9]  # GOAWAY
    assert connection.eof_received() is False  # as often as a loop says it
    connection.connection_lost(None)
    await server.stop()


async def test_on_tls_a_connection_ends_with_either_side(gate, tmp_path):
    """As on HTTP/1: asyncio's TLS sends nothing behind the client's close_notify."""
    authority = Authority(tmp_path)
    issued = authority.issue("server", names=["localhost"])
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*issued)
    server_side.set_alpn_protocols(["h2"])
    client_side = authority.client()
    client_side.check_hostname = False
    client_side.set_alpn_protocols(["h2"])
    server = HTTPServer(gate.routes())
    await server.start()
    listener = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", 0, ssl=server_side)
    port = listener.sockets[0].getsockname()[1]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
        client = Client(reader, writer, b"localhost")
        gate.event.set()
        assert (await client.get("/direct")).body == b"answer"
        gate.event.clear()
        client.ask("GET", "/direct")
        await wait_until(lambda: len(gate.begun) == 2, PATIENCE)
        client.close()
        await wait_until(lambda: not server.connections, PATIENCE)
    finally:
        listener.close()
        await server.stop()
