"""Behind a proxy: both lanes and ASGI see the client, where the proxy is believed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Routes

from ..support import Peer, context, get, wait_until

EVERYTHING = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-port"
OPEN: dict[str, asyncio.Event] = {}


def told(request: Any) -> dict[str, Any]:
    return {"remote": request.remote, "scheme": request.scheme, "host": request.host,
            "secure": request.secure}


def direct() -> HTTPServer:
    routes = Routes()
    routes.get("/")(told)

    @routes.get("/wait")
    async def wait(request: Any) -> dict[str, Any]:
        await OPEN["gate"].wait()
        return told(request)

    return HTTPServer(routes)


def hosted() -> HTTPServer:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/wait":
            await OPEN["gate"].wait()
        assert request.url.scheme == request.scheme
        assert str(request.url).startswith(f"{request.scheme}://{request.host}/")
        return web.json_response(told(request))

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    return HTTPServer(app=app)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/wait":
        await OPEN["gate"].wait()
    headers = dict(scope["headers"])
    body = json.dumps({
        "remote": scope["client"] and scope["client"][0], "scheme": scope["scheme"],
        "host": headers.get(b"host", b"").decode(), "secure": scope["scheme"] == "https",
    }).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def asgi() -> ASGIServer:
    return ASGIServer(application, lifespan="off")


@pytest.fixture(params=[direct, hosted, asgi])
def make(request: pytest.FixtureRequest) -> Any:
    OPEN["gate"] = asyncio.Event()

    @asynccontextmanager
    async def serving(path: Path | None = None, log: Any = None, **options: Any) -> Any:
        server = request.param()
        http = getattr(server, "_http", server)
        http.options = http.options.updated(options)
        await server.start(context(access_log=log, access_log_format="json"))
        loop = asyncio.get_running_loop()
        if path is not None:
            listener: Any = await loop.create_unix_server(server.stream, str(path))
            reader, writer = await asyncio.open_unix_connection(str(path))
        else:
            listener = await loop.create_server(server.stream, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            yield Asking(http, Peer(reader, writer))
        finally:
            writer.close()
            listener.close()
            await server.stop()

    return serving


class Asking:
    def __init__(self, server: HTTPServer, peer: Peer) -> None:
        self.server, self.peer = server, peer

    async def __call__(self, *lines: str) -> tuple[str | None, str, str]:
        self.peer.send(get("/", *lines))
        return await self.answer()

    async def answer(self) -> tuple[str | None, str, str]:
        answer = await self.peer.answer()
        assert answer.status == 200, answer
        found = json.loads(answer.body)
        assert found["secure"] == (found["scheme"] == "https")
        return found["remote"], found["scheme"], found["host"]


FROM = ("X-Forwarded-For: 6.6.6.6, 203.0.113.7", "X-Forwarded-Proto: https")
ITSELF = ("127.0.0.1", "http", "test")


async def test_by_default_proxies_on_this_machine_are_believed(make: Any) -> None:
    async with make() as ask:
        assert await ask() == ITSELF
        assert await ask(*FROM) == ("203.0.113.7", "https", "test")
        # The next request of the connection is another client's, or the proxy's own.
        assert await ask("X-Forwarded-For: 203.0.113.8") == ("203.0.113.8", "http", "test")
        assert await ask() == ITSELF


@pytest.mark.parametrize("believed", ["", "10.0.0.0/8", "unix", "127.0.0.2"])
async def test_a_stranger_is_not_believed(make: Any, believed: str) -> None:
    async with make(forwarded_allow_ips=believed) as ask:
        assert await ask(*FROM) == ITSELF


async def test_what_is_not_chosen_is_not_believed(make: Any) -> None:
    async with make() as ask:
        assert await ask("X-Forwarded-Host: evil", "X-Forwarded-Port: 1",
                         "Forwarded: for=6.6.6.6;host=evil;proto=https") == ITSELF


async def test_all_of_x_forwarded(make: Any) -> None:
    async with make(forwarded_headers=EVERYTHING, forwarded_allow_ips="127.0.0.0/8") as ask:
        assert await ask(*FROM, "X-Forwarded-Host: shop.example", "X-Forwarded-Port: 8443") == (
            "203.0.113.7", "https", "shop.example:8443")
        assert await ask("X-Forwarded-For: 203.0.113.7, 127.0.0.9",
                         "X-Forwarded-Host: a.example, b.example") == (
            "203.0.113.7", "http", "a.example")


async def test_forwarded(make: Any) -> None:
    async with make(forwarded_headers="forwarded", forwarded_allow_ips="127.0.0.0/8") as ask:
        assert await ask(
            "Forwarded: for=6.6.6.6;proto=http", 'Forwarded: for="[2001:db8::7]:1";proto=https',
            "Forwarded: for=127.0.0.9;host=in") == ("2001:db8::7", "https", "test")
        assert await ask("Forwarded: for=203.0.113.7;proto=https;host=shop.example") == (
            "203.0.113.7", "https", "shop.example")
        assert await ask(*FROM) == ITSELF


@pytest.mark.parametrize("line", [
    "X-Forwarded-For: unknown", "X-Forwarded-For: _hidden", "X-Forwarded-For:",
    "X-Forwarded-For: 1.2.3.4; DROP", "X-Forwarded-For: \xff\x80", "X-Forwarded-Proto: gopher",
    "X-Forwarded-For: " + "a" * 5000, "X-Forwarded-For: 999.1.1.1", "X-Forwarded-Host: a b",
    "X-Forwarded-Port: 99999999999", "X-Forwarded-Proto: https\xa0",
])
async def test_what_is_malformed_is_ignored(make: Any, line: str) -> None:
    async with make(forwarded_headers=EVERYTHING) as ask:
        assert await ask(line) == ITSELF


@pytest.mark.parametrize("line", [
    "Forwarded: for=", "Forwarded: =", 'Forwarded: for="', "Forwarded: for=_hidden", "Forwarded:",
    "Forwarded: for=1.1.1.1;for=2.2.2.2", "Forwarded: \xff", "Forwarded: proto=https;proto=http",
])
async def test_what_is_malformed_of_forwarded_is_ignored(make: Any, line: str) -> None:
    async with make(forwarded_headers="forwarded") as ask:
        assert await ask(line) == ITSELF


@pytest.mark.parametrize(("believed", "remote"), [
    (None, "203.0.113.7"), ("unix", "203.0.113.7"), ("127.0.0.1", None)])
async def test_behind_a_unix_socket(
    make: Any, believed: str | None, remote: str | None, tmp_path: Path
) -> None:
    async with make(tmp_path / "s", forwarded_allow_ips=believed) as ask:
        assert ((await ask(*FROM))[0] or None) == remote  # aiohttp says ""
        assert not (await ask())[0]


async def test_the_access_log_has_the_client(make: Any) -> None:
    records: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.extend(record.getMessage().splitlines())

    log = logging.Logger("access")
    log.addHandler(Kept())
    async with make(log=log) as ask:
        await ask(*FROM)
        await ask()
        await wait_until(lambda: len(records) == 2)
    assert [json.loads(line)["remote"] for line in records] == ["203.0.113.7", "127.0.0.1"]


async def test_whoever_looks_sees_the_client_while_its_request_is_under_way(make: Any) -> None:
    async with make() as ask:
        await ask()
        lane, = ask.server.connections
        ask.peer.send(get("/wait", *FROM))
        await wait_until(lambda: lane.activity()["state"] == "request")
        assert lane.activity()["client"] == "203.0.113.7"
        OPEN["gate"].set()
        assert (await ask.answer())[0] == "203.0.113.7"
        await wait_until(lambda: lane.activity()["state"] == "idle")
        assert not lane.activity().get("client")
        OPEN["gate"].clear()
        ask.peer.send(get("/wait"))
        await wait_until(lambda: lane.activity()["state"] == "request")
        assert lane.activity()["client"] == ""
        OPEN["gate"].set()
        await ask.answer()


async def test_who_is_gone_is_not_believed() -> None:
    """An endpoint that asks for the first time when the connection is lost."""
    seen: list[str | None] = []
    ready, gone = asyncio.Event(), asyncio.Event()
    routes = Routes()

    @routes.get("/")
    async def late(request: Any) -> None:
        ready.set()
        await gone.wait()
        seen.append(request.remote)

    server = HTTPServer(routes)
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        peer = Peer(*await asyncio.open_connection(*listener.sockets[0].getsockname()))
        peer.send(get("/", *FROM))
        await ready.wait()
        lane, = server.connections
        lane.abort()
        await wait_until(lambda: not server.connections)
        gone.set()
        await wait_until(lambda: seen)
        assert seen == [None]
    finally:
        listener.close()
        await server.stop()


async def test_a_websocket_of_an_endpoint_has_its_client() -> None:
    websockets = pytest.importorskip("websockets.asyncio.client")
    routes = Routes()

    @routes.websocket("/ws")
    async def socket(request: Any, websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_json(told(request))

    async with direct_serving(routes) as port:
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/ws",
            additional_headers={"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "wss"},
        ) as client:
            found = json.loads(await client.recv())
        assert (found["remote"], found["scheme"]) == ("203.0.113.7", "https")


@asynccontextmanager
async def direct_serving(routes: Routes) -> AsyncIterator[int]:
    server = HTTPServer(routes)
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.stop()


@pytest.mark.parametrize(("option", "value", "message"), [
    ("forwarded_allow_ips", "nginx", "option forwarded_allow_ips='nginx': 'nginx': expected an"),
    ("forwarded_allow_ips", 5, "option forwarded_allow_ips=5: expected a text"),
    ("forwarded_headers", "x-real-ip", "option forwarded_headers='x-real-ip': expected names of"),
    ("forwarded_headers", None, "option forwarded_headers=None: expected a text"),
])
def test_options_that_say_nothing(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        HTTPServer(Routes(), **{option: value})


async def test_what_the_host_was_told_holds_unless_the_server_was_told() -> None:
    for own, host, expected in ((None, "", False), (None, "127.0.0.1", True),
                                ("127.0.0.1", "", True), ("", "*", False)):
        server = HTTPServer(Routes(), forwarded_allow_ips=own)
        await server.start(context(forwarded_allow_ips=host))
        assert server.service.forwarding.believes("127.0.0.1") is expected, (own, host)
        await server.stop()
