"""ASGIServer through real sockets: Starlette, websockets' client, raw HTTP."""

import asyncio
import contextlib
import logging
from types import SimpleNamespace

import pytest
import websockets
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from apihour_asgi import ASGIServer, LifespanError
from tests.apihour_tcp.minicore import WAYS, context, serve, until

pytestmark = pytest.mark.parametrize("way", WAYS)


async def hello(request):
    return JSONResponse({"hello": request.query_params.get("name"), "from": request.state.city,
                         "client": list(request.client)})


async def slow(request):
    request.app.state.begun.set()
    await request.app.state.go.wait()
    return PlainTextResponse("slow done")


async def stream(request):
    async def parts():
        yield b"first "
        request.app.state.begun.set()
        await request.app.state.go.wait()
        yield b"last"

    return StreamingResponse(parts())


async def broken(request):
    raise RuntimeError("handler broke")


async def echo(socket):
    await socket.accept()
    socket.app.state.begun.set()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())
    socket.app.state.ended.set()


async def ticker(socket):
    await socket.accept()
    socket.app.state.begun.set()
    with contextlib.suppress(WebSocketDisconnect):  # what a client that left looks like
        while True:
            await socket.send_text("tick")
            await asyncio.sleep(0.02)


def application(events):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        events.append("startup")
        app.state.begun, app.state.go, app.state.ended = (asyncio.Event() for _ in range(3))
        yield {"city": "Mons"}
        events.append("shutdown")

    routes = [Route("/hello", hello), Route("/slow", slow), Route("/stream", stream),
              Route("/broken", broken), WebSocketRoute("/echo", echo),
              WebSocketRoute("/ticker", ticker)]
    return Starlette(routes=routes, lifespan=lifespan)


class Client:
    """One HTTP/1.1 connection, bytes in plain sight."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, path):
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def head(self):
        return (await self.reader.readuntil(b"\r\n\r\n")).lower()

    async def answer(self):
        head = await self.head()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head, await self.reader.readexactly(length)

    async def get(self, path):
        self.send(path)
        return await self.answer()

    async def ended(self):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(self.reader.read(), 5) == b""
        self.writer.close()


@pytest.fixture(params=["httptools", "aiohttp"])
def parser(request):
    return request.param


async def test_lifespan_requests_and_statistics(way, parser):
    events = []
    app = application(events)
    async with serve(ASGIServer(app, parser=parser), way) as serving:
        assert events == ["startup"]
        client = await Client.connect(serving.port)
        for _ in range(3):
            head, body = await client.get("/hello?name=you")
            assert b'"hello":"you","from":"Mons"' in body
        assert head.startswith(b"http/1.1 200") and b"\r\ndate: " in head
        assert b"connection: close" not in head
        facts = serving.server.statistics()
        assert (facts["connections"], facts["requests"]) == (1, 3)
        if way == "core":
            (row,) = serving.table
            assert row.requests == 3
        client.writer.close()
    assert events == ["startup", "shutdown"]


async def test_routes_are_measured_by_what_the_framework_says(way, parser):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] != "/nowhere":
            scope["route"] = SimpleNamespace(path="/users/{id}")  # as FastAPI does
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async with serve(ASGIServer(app, parser=parser, lifespan="off"), way) as serving:
        measuring = asyncio.ensure_future(serving.server.measure(2.0))
        await asyncio.sleep(0)
        client = await Client.connect(serving.port)
        for path in ("/users/1", "/users/2", "/nowhere"):
            await client.get(path)
        client.writer.close()
        rows = {row["route"]: row for row in await measuring}
        assert (rows["GET /users/{id}"]["requests"], rows["GET /users/{id}"]["errors"]) == (2, 2)
        assert rows[""]["requests"] == 1 and rows["GET /users/{id}"]["cpu"] > 0


async def test_responses_are_counted_by_class(way, parser):
    app = application([])
    async with serve(ASGIServer(app, parser=parser), way) as serving:
        for path in ("/hello", "/hello", "/nothing", "/broken"):
            client = await Client.connect(serving.port)
            await client.get(path)
            client.writer.close()
        facts = serving.server.statistics()
        assert facts["responses"] == {"2xx": 2, "3xx": 0, "4xx": 1, "5xx": 1}


async def test_silence_is_a_500_unless_the_client_left(way, parser):
    go = asyncio.Event()

    async def silent(scope, receive, send):
        if scope["path"] == "/wait":
            go.set()
            while (await receive())["type"] != "http.disconnect":
                pass

    async with serve(ASGIServer(silent, parser=parser, lifespan="off"), way) as serving:
        client = await Client.connect(serving.port)
        client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).startswith(b"http/1.1 500")
        client.writer.close()
        client = await Client.connect(serving.port)
        client.writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await go.wait()
        client.writer.transport.abort()
        await until(lambda: serving.server.statistics()["tasks"] == 0)
        assert serving.server.statistics()["responses"]["5xx"] == 1


async def test_the_true_peer_is_the_client(way):
    if way == "plain":
        pytest.skip("only the core knows it")
    async with serve(ASGIServer(application([])), way) as serving:
        make, seen = serving.server.stream, []

        def stream(row):
            row.peer_address = ("192.0.2.7", 4711)
            seen.append(row)
            return make(row)

        serving.server.stream = stream
        client = await Client.connect(serving.port)
        _, body = await client.get("/hello")
        assert b'"client":["192.0.2.7",4711]' in body
        client.writer.close()


async def test_websocket(way, parser):
    async with (
        serve(ASGIServer(application([]), parser=parser), way) as serving,
        websockets.connect(f"ws://127.0.0.1:{serving.port}/echo") as socket,
    ):
        await socket.send("hello")
        assert await socket.recv() == "HELLO"
        assert serving.server.statistics()["websockets"] == 1
        if way == "core":
            assert [row.state for row in serving.table] == ["websocket"]


async def test_drain_says_connection_close_on_the_next_response(way, parser):
    async with serve(ASGIServer(application([]), parser=parser, linger=30), way) as serving:
        busy, fresh = await Client.connect(serving.port), await Client.connect(serving.port)
        await busy.get("/hello")
        await until(lambda: serving.server.statistics()["connections"] == 2)
        drain = asyncio.ensure_future(serving.drain(60))
        await asyncio.sleep(0.2)
        for client in (busy, fresh):  # accepted but silent is about to speak
            head, body = await client.get("/hello?name=late")
            assert b"connection: close" in head and b"late" in body
            await client.ended()
        assert await drain < 10


async def test_drain_closes_the_silent_after_the_linger_time(way, parser):
    async with serve(ASGIServer(application([]), parser=parser, linger=0.3), way) as serving:
        client = await Client.connect(serving.port)
        await client.get("/hello")
        took = await serving.drain(60)
        assert 0.29 <= took < 5  # uvloop's clock has milliseconds
        await client.ended()


async def test_drain_finishes_what_is_in_flight(way, parser):
    app = application([])
    async with serve(ASGIServer(app, parser=parser, linger=0.1), way) as serving:
        waiting, streaming = await Client.connect(serving.port), await Client.connect(serving.port)
        waiting.send("/slow")
        streaming.send("/stream")
        assert b"chunked" in await streaming.head()
        assert await streaming.reader.readline() == b"6\r\n"
        await app.state.begun.wait()
        await until(lambda: serving.server.statistics()["tasks"] == 2)
        drain = asyncio.ensure_future(serving.drain(60))
        await asyncio.sleep(0.4)
        assert not drain.done()
        app.state.go.set()
        head, body = await waiting.answer()
        assert b"connection: close" in head and body == b"slow done"
        assert b"4\r\nlast\r\n0\r\n\r\n" in await streaming.reader.read()
        await waiting.ended()
        assert await drain < 10
        streaming.writer.close()


async def test_drain_closes_websockets_with_1012(way):
    app = application([])
    async with serve(ASGIServer(app), way) as serving:
        async with websockets.connect(f"ws://127.0.0.1:{serving.port}/echo") as socket:
            await app.state.begun.wait()
            drain = asyncio.ensure_future(serving.drain(60))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == 1012
            assert closed.value.rcvd_then_sent  # it had time to answer
        assert await drain < 5
        assert app.state.ended.is_set()


async def test_a_websocket_that_only_sends_ends_quietly(way, caplog):
    caplog.set_level(logging.WARNING)
    app = application([])
    async with serve(ASGIServer(app), way) as serving:
        async with websockets.connect(f"ws://127.0.0.1:{serving.port}/ticker") as socket:
            await app.state.begun.wait()
            drain = asyncio.ensure_future(serving.drain(60))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    assert await socket.recv() == "tick"
            assert closed.value.rcvd.code == 1012
        assert await drain < 5
    assert "Exception in ASGI application" not in caplog.text


async def test_websocket_handshake_while_draining(way):
    async with serve(ASGIServer(application([]), linger=30), way) as serving:
        client = await Client.connect(serving.port)
        await client.get("/hello")
        drain = asyncio.ensure_future(serving.drain(60))
        await asyncio.sleep(0.1)
        client.writer.write(
            b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = await client.head()
        assert head.startswith(b"http/1.1 101") and b"close" not in head
        frame = await client.reader.readexactly(4)
        assert frame[0] == 0x88 and frame[2:] == b"\x03\xf4"  # close, 1012
        client.writer.close()
        assert await drain < 15


async def test_failing_handler_costs_its_response_only(way, caplog):
    async with serve(ASGIServer(application([])), way) as serving:
        client = await Client.connect(serving.port)
        head, _ = await client.get("/broken")
        assert head.startswith(b"http/1.1 500") and "handler broke" in caplog.text
        other = await Client.connect(serving.port)
        assert (await other.get("/hello"))[0].startswith(b"http/1.1 200")
        for each in (client, other):
            each.writer.close()


async def test_garbage_costs_its_connection_only(way, parser):
    async with serve(ASGIServer(application([]), parser=parser), way) as serving:
        client, other = await Client.connect(serving.port), await Client.connect(serving.port)
        client.writer.write(b"\x16\x03\x01\x00nonsense\r\n\r\n")
        assert (await client.head()).startswith(b"http/1.1 400")
        assert (await other.get("/hello"))[0].startswith(b"http/1.1 200")
        for each in (client, other):
            each.writer.close()


async def test_a_head_that_never_comes(way):
    options = {"header_timeout": 0.2, "keepalive": 1.0}
    async with serve(ASGIServer(application([]), **options), way) as serving:
        silent, slow = [await Client.connect(serving.port) for _ in range(2)]
        await slow.get("/hello")
        slow.writer.write(b"GET /hello HT")
        assert (await slow.head()).startswith(b"http/1.1 408")
        await silent.ended()


async def test_access_log(way, caplog):
    caplog.set_level(logging.INFO)
    ctx = context(access_log=logging.getLogger("test.access"))
    async with serve(ASGIServer(application([])), way, ctx) as serving:
        client = await Client.connect(serving.port)
        await client.get("/hello?name=you")
        client.writer.close()
    (record,) = [r for r in caplog.records if r.name == "test.access"]
    assert '"GET /hello?name=you HTTP/1.1" 200' in record.getMessage()


async def test_stop_ends_everything(way):
    app = application([])
    async with serve(ASGIServer(app), way) as serving:
        client = await Client.connect(serving.port)
        client.send("/slow")
        await app.state.begun.wait()
        await serving.server.stop()
        await client.ended()
        assert serving.server.statistics()["tasks"] == 0


async def test_startup_failure_raises_the_applications_own_error(way):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        raise ConnectionRefusedError("database is down")
        yield

    with pytest.raises(ConnectionRefusedError, match="database is down"):
        await ASGIServer(Starlette(lifespan=lifespan)).start(context())


async def test_startup_failure_without_an_exception(way):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with pytest.raises(LifespanError, match="startup failed: no disk"):
        await ASGIServer(app).start(context())


async def test_an_application_without_lifespan(way):
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serve(ASGIServer(app), way) as serving:
        client = await Client.connect(serving.port)
        assert (await client.get("/"))[1] == b"ok"
        client.writer.close()
    with pytest.raises(AssertionError):
        await ASGIServer(app, lifespan="on").start(context())


async def test_shutdown_failure_is_raised(way):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        raise OSError("cannot flush")

    server = ASGIServer(Starlette(lifespan=lifespan))
    await server.start(context())
    with pytest.raises(OSError, match="cannot flush"):
        await server.stop()


async def test_stop_without_start(way):
    await ASGIServer(Starlette()).stop()
