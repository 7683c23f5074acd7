"""What a connection says it does, at every point of a request's life."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from apihour_http import HTTPServer, Routes

routes = Routes()
seen: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Hold no connection longer than its test: another one looks whether any is left."""
    yield
    seen.clear()


@routes.get("/wait/{number:int}")
async def wait(request: Any) -> dict[str, Any]:
    await seen["gate"].wait()
    return {}


@routes.get("/plain/{name}")
def plain(request: Any) -> dict[str, Any]:
    seen["plain"] = seen["lane"].activity()
    return {}


@routes.post("/upload")
async def upload(request: Any) -> dict[str, Any]:
    return {"size": len(await request.read())}


async def hosted(request: web.Request) -> web.Response:
    await request.read()
    await seen["gate"].wait()
    return web.Response(text="done")


async def sockets(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for _ in websocket:
        pass
    return websocket


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_post("/hosted/{id}", hosted)
    app.router.add_get("/ws", sockets)
    return app


class Client:
    """A peer that sends what it likes, and the lane it is served by."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Any):
        self.reader, self.writer, self.lane = reader, writer, lane

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, state: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while (told := self.lane.activity())["state"] != state:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return told  # type: ignore[no-any-return]


@pytest.fixture
def talk() -> Any:
    """Run a coroutine function with a client connected to a server of both lanes."""

    def run(main: Any) -> None:
        async def go() -> None:
            seen["gate"] = asyncio.Event()
            server = HTTPServer(routes, make_app())
            await server.start()
            ours, theirs = socket.socketpair()
            loop = asyncio.get_running_loop()
            row = SimpleNamespace(state="open", requests=0, sock=ours, peer_address=("::1", 1))
            transport, lane = await loop.connect_accepted_socket(lambda: server.stream(row), ours)
            seen["lane"] = lane
            reader, writer = await asyncio.open_connection(sock=theirs)
            try:
                await main(Client(reader, writer, lane))
            finally:
                writer.close()
                transport.abort()
                await server.stop()

        asyncio.run(go())

    return run


HOST = b" HTTP/1.1\r\nHost: x\r\n"


def test_head_request_idle_of_the_direct_lane(talk: Any) -> None:
    async def main(client: Client) -> None:
        assert client.lane.activity() == {"state": "open"}
        await client.send(b"GET /wait/7?token=secret" + HOST)
        assert "since" in await client.until("head")
        await client.send(b"\r\n")
        told = await client.until("request")
        assert (told["path"], told["route"]) == ("/wait/7", "GET /wait/{number:int}")
        assert told["since"] <= asyncio.get_running_loop().time()
        seen["gate"].set()
        assert await client.until("idle") == {"state": "idle"}

    talk(main)


def test_a_plain_function_is_named_while_it_runs(talk: Any) -> None:
    async def main(client: Client) -> None:
        for _ in range(2):  # the second is known again, and not parsed
            await client.send(b"GET /plain/you" + HOST + b"\r\n")
            await client.reader.readuntil(b"{}")
            told = seen.pop("plain")
            assert (told["state"], told["path"], told["route"]) == (
                "request", "/plain/you", "GET /plain/{name}")
            assert told["since"]

    talk(main)


@pytest.mark.parametrize(("target", "route"), [
    (b"/upload", "POST /upload"), (b"/hosted/1", "POST /hosted/{id}")])
def test_a_body_that_is_owed(talk: Any, target: bytes, route: str) -> None:
    async def main(client: Client) -> None:
        await client.send(b"POST " + target + HOST + b"Content-Length: 5\r\n\r\nab")
        told = await client.until("body")
        assert told["path"] == target.decode() and told["since"]
        seen["gate"].set()
        await client.send(b"cde")
        await client.until("idle")

    talk(main)


def test_routes_of_the_application_and_its_websockets(talk: Any) -> None:
    async def main(client: Client) -> None:
        await client.send(b"POST /hosted/1" + HOST + b"Content-Length: 2\r\n\r\nab")
        told = await client.until("request")
        assert (told["path"], told["route"]) == ("/hosted/1", "POST /hosted/{id}")
        seen["gate"].set()
        await client.until("idle")
        await client.send(
            b"GET /ws" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        told = await client.until("websocket")
        assert (told["path"], told["route"]) == ("/ws", "GET /ws")

    talk(main)


def test_a_client_that_does_not_read(talk: Any) -> None:
    async def main(client: Client) -> None:
        client.lane.pause_writing()
        assert client.lane.activity()["state"] == "write"
        client.lane.resume_writing()
        assert client.lane.activity()["state"] == "open"

    talk(main)
