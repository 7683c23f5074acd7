"""WebSockets (RFC 6455) of ASGI applications: by the library's client, and frame by frame."""

import asyncio
import logging

import pytest
import websockets

from tests.apihour_http.support import wait_until

from .support import FINAL, HANDSHAKE, PATIENCE, frame, get, open_socket, read_frame, served

CONTINUATION, TEXT, BINARY, CLOSED, PING, PONG = 0, 1, 2, 8, 9, 10


async def echo(scope, receive, send):
    """Accepts, and sends back what comes; what it learns at the end is kept in `ends`."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            ends.append((message["code"], message["reason"]))
            return
        await send({"type": "websocket.send", **{k: message[k] for k in message if k != "type"}})


ends = []


@pytest.fixture(autouse=True)
def no_ends():
    ends.clear()


def at(where):
    return f"ws://127.0.0.1:{where.port}/"


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages(compression):
    async with (
        served(echo) as where,
        websockets.connect(at(where), compression=compression, max_size=None) as socket,
    ):
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == (["permessage-deflate"] if compression else [])
        for message in ("", "é" * 40_000, b"", bytes(300_000), "x"):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["a" * 70_000, "", "b" * 70_000])  # three fragments
        assert await socket.recv() == "a" * 70_000 + "b" * 70_000
        pong = await socket.ping(b"hello")
        await asyncio.wait_for(pong, PATIENCE)
        await socket.close(3001, "done")
    await wait_until(lambda: ends == [(3001, "done")], PATIENCE)


async def test_compression_can_be_turned_off():
    async with served(echo, ws_deflate=False) as where, websockets.connect(at(where)) as socket:
        assert socket.protocol.extensions == []


async def test_scope_subprotocol_and_headers():
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "b",
                    "headers": [(b"x-own", b"1"), (b"set-cookie", b"a=b")]})
        await send({"type": "websocket.send", "text": "hi"})
        await send({"type": "websocket.close", "code": 3000, "reason": "over"})

    async with served(app, root_path="/api") as where:
        socket = await websockets.connect(at(where) + "a%20b?c=d", subprotocols=["a", "b"])
        assert (socket.subprotocol, socket.response.headers["x-own"]) == ("b", "1")
        assert len(socket.response.headers.get_all("date")) == 1
        assert await socket.recv() == "hi"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, "over")
        assert closed.value.rcvd_then_sent
    assert (seen["type"], seen["scheme"], seen["path"], seen["raw_path"]) == (
        "websocket", "ws", "/api/a b", b"/api/a%20b")
    assert (seen["query_string"], seen["subprotocols"]) == (b"c=d", ["a", "b"])
    assert seen["extensions"] == {"websocket.http.response": {}} and "method" not in seen


@pytest.mark.parametrize(("headers", "status"), [
    (["Sec-WebSocket-Version: 8"], b"400"), (["Sec-WebSocket-Key: short"], b"400"),
])
async def test_a_broken_handshake_is_refused_and_no_application_runs(headers, status):
    async def app(scope, receive, send):
        raise AssertionError("not to be asked")

    names = [one.partition(":")[0] for one in headers]
    kept = [one for one in HANDSHAKE if one.partition(":")[0] not in names]
    async with served(app) as where:
        raw = await where.ask(get("/", *kept, *headers))
        assert raw.startswith(b"HTTP/1.1 " + status) and b"Failed to open a WebSocket" in raw


REFUSALS = {
    "close": ([{"type": "websocket.close"}], 403, b""),
    "own": ([{"type": "websocket.http.response.start", "status": 401,
              "headers": [(b"x-own", b"1")]},
             {"type": "websocket.http.response.body", "body": b"who ", "more_body": True},
             {"type": "websocket.http.response.body", "body": b"are you?"}], 401, b"who are you?"),
    "nothing": ([], 500, b"Internal Server Error"),
    "out of order": ([{"type": "websocket.send", "text": "x"}], 500, b"Internal Server Error"),
    "split": ([{"type": "websocket.accept", "headers": [(b"a", b"b\r\nc: d")]}], 500,
              b"Internal Server Error"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_websocket_may_be_refused(name):
    messages, status, body = REFUSALS[name]

    async def app(scope, receive, send):
        assert await receive() == {"type": "websocket.connect"}
        for message in messages:
            await send(message)

    async with served(app) as where:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(at(where))
        response = refused.value.response
        assert (response.status_code, response.body or b"") == (status, body)
        await wait_until(lambda: where.record["connections"] == 0, PATIENCE)
        assert where.record["responses"][f"{status // 100}xx"] == 1


@pytest.mark.parametrize(("frames", "code"), [
    (frame(FINAL | TEXT, b"\xff"), 1007),
    (frame(FINAL | CONTINUATION, b"x"), 1002),
    (frame(TEXT, b"a") + frame(FINAL | TEXT, b"b"), 1002),
    (frame(FINAL | 3), 1002),
    (frame(FINAL | 0x40 | TEXT), 1002),
    (frame(PING), 1002),
    (b"\x81\x01x", 1002),  # not masked
    (frame(FINAL | BINARY, bytes(101)), 1009),
    (frame(BINARY, bytes(60)) + frame(FINAL | CONTINUATION, bytes(60)), 1009),
    (frame(FINAL | CLOSED, b"\x03\xe7"), 1002),  # 999
    (frame(FINAL | CLOSED, b"\x03"), 1002),
])
async def test_frames_that_break_the_protocol(frames, code):
    async with served(echo, ws_max_size=100) as where:
        peer = await open_socket(where)
        peer.send(frames)
        first, payload = await read_frame(peer)
        assert (first, int.from_bytes(payload[:2], "big")) == (FINAL | CLOSED, code)
        assert await peer.rest(PATIENCE) == b""
        await wait_until(lambda: where.record["tasks"] == 0, PATIENCE)
    assert ends[0][0] == code


async def test_control_frames_between_fragments():
    async with served(echo) as where:
        peer = await open_socket(where)
        peer.send(frame(TEXT, b"a") + frame(FINAL | PING, b"?") + frame(CONTINUATION)
                  + frame(FINAL | PONG) + frame(FINAL | CONTINUATION, b"b"))
        assert await read_frame(peer) == (FINAL | PONG, b"?")
        assert await read_frame(peer) == (FINAL | TEXT, b"ab")
        peer.send(frame(FINAL | CLOSED, b"\x03\xe8"))
        assert await read_frame(peer) == (FINAL | CLOSED, b"\x03\xe8")
        assert await peer.rest(PATIENCE) == b""
    await wait_until(lambda: ends == [(1000, "")], PATIENCE)


async def test_what_an_application_leaves_open_is_closed(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/raises":
            raise RuntimeError("it broke")

    async with served(app) as where:
        for path, code in (("returns", 1000), ("raises", 1011)):
            async with websockets.connect(at(where) + path) as socket:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd.code == code
        await wait_until(lambda: where.record["connections"] == 0, PATIENCE)
    assert "it broke" in caplog.text


async def test_a_client_that_leaves_is_told_and_no_error(caplog):
    caplog.set_level(logging.DEBUG)

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0)

    async with served(app) as where:
        peer = await open_socket(where)
        await read_frame(peer)
        peer.writer.transport.abort()
        await wait_until(lambda: where.record["tasks"] == 0, PATIENCE)
        peer = await open_socket(where)
        peer.send(frame(FINAL | CLOSED, b"\x03\xe8"))
        await wait_until(lambda: where.record["tasks"] == 0, PATIENCE)
        peer.close()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_silent_client_is_gone_after_two_pings_and_one_that_answers_stays():
    async with served(echo, ws_ping_interval=0.2) as where:
        dead = await open_socket(where)
        async with websockets.connect(at(where), ping_interval=None) as alive:
            frames = []
            while not frames or frames[-1][0] != FINAL | CLOSED:
                frames.append(await read_frame(dead))
            assert frames[0] == (FINAL | PING, b"")
            assert int.from_bytes(frames[-1][1][:2], "big") == 1011
            await alive.send("still here")
            assert await alive.recv() == "still here"
        dead.close()


async def test_without_the_library_it_is_a_request_as_any_other(monkeypatch, caplog):
    monkeypatch.setattr("apihour_asgi.server.importlib.util.find_spec", lambda name: None)
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])
        await send({"type": "http.response.start", "status": 426})
        await send({"type": "http.response.body"})

    async with served(app) as where:
        for _ in range(2):
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(at(where))
    assert seen == ["http", "http"]
    assert caplog.text.count("pip install 'apihour[asgi]'") == 1
