"""What follows an upgrade: nothing is lost, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from apihour_http import Request, Routes
from apihour_http.connection import frames

from ..support import Peer, get, serving, wait_until

PARSERS = pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
PATIENCE = 30.0
KEY = base64.b64encode(bytes(16)).decode()
UPGRADE = get("/ws", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}",
              "Sec-WebSocket-Version: 13")
TEXT, FINAL, CONTINUATION = 1, 0x80, 0


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame (RFC 6455 5.2), masked with zeros."""
    size = len(payload)
    length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    return bytes([first]) + length + bytes(4) + payload


async def reply(peer: Peer) -> bytes:
    """The payload of one short frame of the server."""
    head = await asyncio.wait_for(peer.reader.readexactly(2), PATIENCE)
    size = head[1]
    if size == 126:
        size = int.from_bytes(await peer.reader.readexactly(2), "big")
    return await asyncio.wait_for(peer.reader.readexactly(size), PATIENCE)


def make_app(read: Callable[[], Awaitable[object]] | None = None) -> web.Application:
    app = web.Application()

    async def echo(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(max_msg_size=1 << 26)
        await websocket.prepare(request)
        async for message in websocket:
            if read is not None:
                await read()
            await websocket.send_str(f"{len(message.data)} {message.data[:20]}")
        return websocket

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response(text="hosted")

    app.router.add_get("/ws", echo)
    app.router.add_get("/hosted", slow)
    return app


@PARSERS
@pytest.mark.parametrize("path", ["/hosted", "/direct", "/inline"])
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_requests_an_upgrade_and_its_first_frames_in_one_write(
    parser: str, path: str, before: int
) -> None:
    routes = Routes()

    @routes.get("/direct")
    async def direct(request: Request) -> str:
        await asyncio.sleep(0.01)
        return "direct"

    @routes.get("/inline")
    def inline(request: Request) -> str:
        return "inline"

    async with serving(routes, make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send(get(path) * before + UPGRADE + frame(FINAL | TEXT, b"one")
                  + frame(FINAL | TEXT, b"two"))
        for _ in range(before):
            assert (await peer.answer(PATIENCE)).body == path[1:].encode()
        assert (await peer.answer(PATIENCE)).status == 101
        assert await reply(peer) == b"3 one"
        assert await reply(peer) == b"3 two"
        peer.send(frame(FINAL | TEXT, b"three"))
        assert await reply(peer) == b"5 three"
        peer.close()


@pytest.mark.alone
async def test_a_flood_of_empty_frames_keeps_nobody_waiting() -> None:
    async with serving(None, make_app()) as served:
        hostile, other = await served.connect(), await served.connect()
        hostile.send(UPGRADE)
        await hostile.answer(PATIENCE)
        count = 400_000
        hostile.send(frame(TEXT) + frame(CONTINUATION) * count)
        loop = asyncio.get_running_loop()
        waits = []
        for _ in range(60):
            start = loop.time()
            other.send(get("/nothing"))
            await other.answer(PATIENCE)
            waits.append(loop.time() - start)
        # One read of them took 150 ms. The client is in this loop too, and has its share.
        assert sorted(waits)[-3] < 0.05, sorted(waits)[-5:]
        hostile.send(frame(FINAL, b"end"))
        assert await reply(hostile) == b"3 end"
        hostile.close()
        other.close()


async def test_frames_come_in_order_while_the_handler_does_not_keep_up() -> None:
    gate = asyncio.Event()
    async with (
        serving(None, make_app(gate.wait)) as served, aiohttp.ClientSession() as session,
        session.ws_connect(served.url + "/ws", max_msg_size=1 << 26) as websocket,
    ):
        sizes = [n * 1000 for n in range(300)]

        async def send() -> None:
            for size in sizes:
                await websocket.send_str("x" * size)

        sender = asyncio.create_task(send())
        lane = next(iter(served.server.connections))
        await wait_until(lambda: lane.paused, PATIENCE)
        assert len(lane.tail) < 1 << 20
        gate.set()
        for size in sizes:
            text = await websocket.receive_str(timeout=PATIENCE)
            assert text == f"{size} {'x' * min(20, size)}"
        await sender
        blob = os.urandom(1 << 21).hex()
        await websocket.send_str(blob)
        assert await websocket.receive_str(timeout=PATIENCE) == f"{len(blob)} {blob[:20]}"


async def test_a_client_that_leaves_amid_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_BUDGET", 0.0)  # else a fast machine takes a whole read in a turn
    async with serving(None, make_app()) as served:
        peer = await served.connect()
        peer.send(UPGRADE)
        await peer.answer(PATIENCE)
        peer.send(frame(TEXT) + frame(CONTINUATION) * 100_000)
        lane = next(iter(served.server.connections))
        await wait_until(lambda: lane.tail, PATIENCE)
        peer.writer.transport.abort()
        await wait_until(lambda: not served.server.connections, PATIENCE)


async def test_more_that_is_asked_for_comes_in_a_turn_of_its_own() -> None:
    count, at_a_stretch = 20_000, [0]
    app = web.Application()

    async def read_all(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for _ in websocket:
            at_a_stretch[-1] += 1
        return websocket

    app.router.add_get("/ws", read_all)
    async with serving(None, app) as served:
        peer = await served.connect()
        peer.send(UPGRADE)
        await peer.answer(PATIENCE)
        lane = next(iter(served.server.connections))
        peer.send(frame(FINAL | TEXT, b"x") * count)
        while sum(at_a_stretch) < count:
            await asyncio.sleep(0)
            assert served.server.connections, "the connection was lost"
            if at_a_stretch[-1]:
                at_a_stretch.append(0)
        peer.close()
        assert lane.tail == b""
    # aiohttp keeps two thousand for a handler; with more at every read it never paused.
    assert max(at_a_stretch) < 5000, max(at_a_stretch)
