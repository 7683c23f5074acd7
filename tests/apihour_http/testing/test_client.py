"""The client for tests: in memory and over TCP it sees the same."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import apihour
from apihour_asgi import ASGIServer
from apihour_http import SSE, HTTPError, HTTPServer, Request, Response, Routes, Stream
from apihour_http.testing import Client

from ..support import serving

routes = Routes()


@routes.get("/hello/{name}")
async def hello(request: Request) -> dict[str, Any]:
    return {"hello": request.match_info["name"], "query": request.query.getall("a", [])}


@routes.post("/echo")
async def echo(request: Request) -> Response:
    kind = request.headers.get("Content-Type", "none")
    return Response(201, [("X-Kind", kind), ("X-One", "1"), ("X-One", "2")], request.body)


@routes.post("/form")
async def form(request: Request) -> dict[str, str]:
    return dict((await request.post()).items())


@routes.put("/big")
async def big(request: Request) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(request.body).hexdigest()}


@routes.get("/squares")
async def squares(request: Request) -> Stream:
    async def numbers() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number * number}\n"
            await asyncio.sleep(0)

    return Stream(numbers())


@routes.get("/endless")
async def endless(request: Request) -> SSE:
    async def events() -> AsyncIterator[str]:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)

    return SSE(events())


@routes.get("/teapot")
def teapot(request: Request) -> None:
    raise HTTPError(418, "short and stout")


@routes.get("/bug")
def bug(request: Request) -> None:
    raise KeyError("secret")


@routes.get("/who")
def who(request: Request) -> dict[str, Any]:
    return {"remote": request.remote, "host": request.host, "token": request.headers.get("Token")}


@routes.get("/cut")
async def cut(request: Request) -> None:
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    request.transport.abort()


@pytest.fixture(params=["memory", "tcp"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "memory":
        async with Client(routes) as found:
            yield found
    else:
        async with serving(routes) as served, Client(served.url) as found:
            yield found


async def test_answers(client: Client) -> None:
    answer = await client.get("/hello/you?a=1", params={"a": ["ü", "3"]})
    assert (answer.status, answer.reason) == (200, "OK")
    assert answer.json() == {"hello": "you", "query": ["1", "ü", "3"]}
    assert answer.headers["content-type"] == "application/json"
    answer = await client.post("/echo", json={"a": 1})
    assert (answer.status, answer.text) == (201, '{"a": 1}')
    assert answer.headers["X-Kind"] == "application/json"
    assert answer.headers.getall("x-one") == ["1", "2"]
    assert (await client.post("/echo", data="ü")).body == "ü".encode()
    assert (await client.post("/echo")).headers["X-Kind"] == "none"
    assert (await client.post("/form", data={"name": "ada", "more": "1&2"})).json() == {
        "name": "ada", "more": "1&2"}
    answer = await client.head("/hello/you")
    assert (answer.status, answer.body) == (200, b"") and answer.headers["Content-Length"] != "0"
    for method in (client.put, client.patch, client.delete):
        assert (await method("/hello/you")).status == 405
    assert (await client.options("/hello/you")).headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_what_goes_wrong_is_answered(client: Client) -> None:
    answer = await client.get("/teapot")
    assert (answer.status, answer.json()["detail"]) == (418, "short and stout")
    assert (await client.get("/nowhere")).status == 404
    assert (await client.get("/bug")).status == 500
    with pytest.raises(ValueError, match=r"its body is not JSON .*: b'ab'"):
        (await client.post("/echo", data=b"ab")).json()


async def test_streams_and_long_bodies(client: Client) -> None:
    answer = await client.get("/squares")
    assert answer.text.split()[9] == "81" and len(answer.text.split()) == 100
    body = b"x" * 1_000_000
    answer = await client.put("/big", data=body)
    assert answer.json() == {"sha256": hashlib.sha256(body).hexdigest()}
    assert (await client.put("/big", data=body * 2)).status == 413


async def test_what_does_not_end_or_is_cut_is_named(client: Client) -> None:
    client.timeout = 0.3
    with pytest.raises(TimeoutError, match=r"^GET /endless: no end of an answer within 0\.3 s$"):
        await client.get("/endless")
    client.timeout = 30.0
    with pytest.raises(ConnectionError, match=r"^GET /cut: no whole answer, but "):
        await client.get("/cut")
    assert (await client.get("/who")).status == 200


async def test_misuse_is_told(client: Client) -> None:
    with pytest.raises(TypeError, match="expected json or data, not both"):
        await client.post("/echo", json={}, data={})
    with pytest.raises(ValueError, match="control characters"):
        await client.get("/", headers={"X": "a\r\nY: b"})


async def test_two_clients_ask_at_once() -> None:
    async with Client(routes, peer="203.0.113.7", headers={"Token": "a"}) as one, \
            Client(routes, peer="2001:db8::1") as other:
        answers = await asyncio.gather(*(
            client.get("/who", headers=extra) for client in (one, other) * 20
            for extra in ({}, {"Token": "b"})))
        found = {(a.json()["remote"], a.json()["token"]) for a in answers}
    assert found == {("203.0.113.7", "a"), ("203.0.113.7", "b"),
                     ("2001:db8::1", None), ("2001:db8::1", "b")}
    with pytest.raises(RuntimeError, match="expected async with Client"):
        await Client(routes).get("/")


async def test_applications_behind_other_lanes() -> None:
    async def hosted(request: web.Request) -> web.Response:
        return web.json_response({"read": len(await request.read()), "from": request.remote})

    app = web.Application()
    app.router.add_post("/", hosted)
    async with Client(app, peer="203.0.113.7") as client:
        answer = await client.post("/", data=b"x" * 300_000)
        assert answer.json() == {"read": 300_000, "from": "203.0.113.7"}

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})

    async with Client(ASGIServer(asgi, lifespan="off"), peer="203.0.113.7") as client:
        assert (await client.get("/")).text == "203.0.113.7"
    async with Client(asgi) as client:  # which knows no lifespan
        assert (await client.get("/")).text == "127.0.0.1"
    async with Client(HTTPServer(routes, max_body=2)) as client:
        assert (await client.post("/echo", data="abc")).status == 413


class House(apihour.Container):
    told: list[str]

    async def pre_start(self) -> None:
        self.told = ["pre_start"]

    def make_servers(self) -> dict[str, Any]:
        table = Routes()

        @table.get("/")
        async def index(request: Request) -> dict[str, Any]:
            return {"seen": await request.container.shared.incr("seen"),
                    "told": request.container.told, "config": request.container.config}

        return {"http": HTTPServer(table), "inner": table}

    async def start(self) -> None:
        self.told.append("start")
        if self.config.get("fail"):
            raise OSError("no database")

    def shutdown(self) -> None:  # type: ignore[override]
        self.told.append("shutdown")

    async def cleanup(self) -> None:
        self.told.append("cleanup")
        FOUND.append(self)


FOUND: list[House] = []


class Busy(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.done: list[str] = []

    async def work(self, what: str, seconds: float = 0.0) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.done.append(f"{what} was cancelled")
            raise
        self.done.append(what)

    @apihour.every("1h")
    async def prune(self) -> None:
        await self.work("prune")

    async def cleanup(self) -> None:
        self.done.append("cleanup")

    def make_servers(self) -> dict[str, Any]:
        routes = Routes()

        @routes.post("/orders")
        async def order(request: Request[Busy]) -> None:
            self.jobs.start(self.work("mail", 0.05))
            self.jobs.start(self.work("never", 3600))

        return {"http": HTTPServer(routes)}


async def test_a_container_s_jobs_and_background_work_are_there() -> None:
    async with Client(Busy, timeout=0.5) as client:
        assert (await client.post("/orders")).status in (200, 204)
        await client.container.prune()  # as its test calls it
        assert [one.name for one in await client.container.jobs.states()] == ["prune"]
        container = client.container
        assert container.done == ["prune"]
    assert container.done == ["prune", "mail", "never was cancelled", "cleanup"]


async def test_a_container_lives_as_in_a_worker() -> None:
    FOUND.clear()
    async with Client(House, config={"a": 1}) as client:
        assert (await client.get("/")).json() == {
            "seen": 1, "told": ["pre_start", "start"], "config": {"a": 1}}
        assert (await client.get("/")).json()["seen"] == 2
    assert FOUND[0].told == ["pre_start", "start", "shutdown", "cleanup"]
    assert not Path(FOUND[0].worker.cfg.keys).exists()  # as with --keys of a first start
    async with Client(House, server="inner") as client:
        assert (await client.get("/")).json()["seen"] == 1
    with pytest.raises(OSError, match="no database"):
        async with Client(House, config={"fail": True}):
            pass
    assert FOUND[-1].told == ["pre_start", "start", "cleanup"]
    with pytest.raises(ValueError, match=r"^server 'web': expected one of http, inner, "):
        async with Client(House, server="web"):
            pass


@pytest.mark.parametrize("served", [5, None, hello])
async def test_what_cannot_be_asked(served: Any) -> None:
    with pytest.raises(TypeError, match="expected Routes, an HTTPServer or"):
        async with Client(served):
            pass


@asynccontextmanager
async def nothing_listens() -> AsyncIterator[str]:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    yield f"127.0.0.1:{port}"


async def test_a_server_that_is_not_there() -> None:
    async with nothing_listens() as address, Client(address) as client:
        with pytest.raises(ConnectionRefusedError):
            await client.get("/")


@pytest.mark.parametrize("ends", [True, False])
async def test_work_behind_an_answer_is_done_at_the_end(
    ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table, done = Routes(), []

    async def work() -> None:
        await asyncio.sleep(0.2 if ends else 60)
        done.append("work")

    @table.post("/")
    async def begin(request: Request) -> None:
        request.after(work())

    async with asyncio.timeout(20):
        async with Client(table, timeout=10.0 if ends else 0.3) as client:
            assert (await client.post("/")).status == 204
    assert done == (["work"] if ends else [])
    assert ("was cancelled before its end" in caplog.text) != ends
