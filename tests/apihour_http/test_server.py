"""The direct lane and the application's lane, from the outside."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apihour_http import (
    CONTAINER,
    HTML,
    JSON,
    HTTPError,
    HTTPServer,
    Request,
    Response,
    Routes,
)

from .support import context, get, serving, wait_until


def make_routes() -> Routes:
    routes = Routes()

    @routes.get("/hello/{name}")
    async def hello(request: Request) -> dict[str, Any]:
        return {"hello": request.match_info["name"]}

    @routes.get("/sum/{a:int}/{b:int}")
    def add(request: Request) -> dict[str, Any]:
        return {"sum": request.match_info["a"] + request.match_info["b"]}

    @routes.post("/echo")
    async def echo(request: Request) -> Any:
        return await request.json()

    @routes.route("PUT", "/item")
    def put(request: Request) -> Response:
        return Response(201, {"Location": "/item/1"}, {"made": True})

    @routes.get("/teapot")
    def teapot(request: Request) -> None:
        raise HTTPError(418, "short and stout", spout=True)

    @routes.get("/bug")
    async def bug(request: Request) -> None:
        raise KeyError("secret")

    return routes


def make_app() -> web.Application:
    app = web.Application()

    async def hello(request: web.Request) -> web.Response:
        return JSON({"app": request.path}, headers={"X-A": "b"})

    async def length(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(b"%d\n" % number)
            await asyncio.sleep(0.01)
        return response

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data.upper())
        return ws

    app.router.add_get("/app", hello)
    app.router.add_post("/length", length)
    app.router.add_get("/stream", stream)
    app.router.add_get("/ws", socket)
    return app


@pytest.fixture(params=["httptools", "aiohttp"])
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_answers_of_every_kind(parser: str) -> None:
    routes = make_routes()

    @routes.get("/bytes")
    def raw(request: Request) -> bytes:
        return b"\x00\x01"

    @routes.get("/text")
    def text(request: Request) -> str:
        return "grüß"

    @routes.get("/nothing")
    def nothing(request: Request) -> None:
        return None

    @routes.get("/html")
    def html(request: Request) -> HTML:
        return HTML("<p>ü</p>", 202)

    async with serving(routes, parser=parser) as served, aiohttp.ClientSession() as session:
        expected = {
            "/hello/you": (200, "application/json", b'{"hello":"you"}'),
            "/sum/20/22": (200, "application/json", b'{"sum":42}'),
            "/bytes": (200, "application/octet-stream", b"\x00\x01"),
            "/text": (200, "text/plain", "grüß".encode()),
            "/nothing": (204, "application/octet-stream", b""),
            "/html": (202, "text/html", "<p>ü</p>".encode()),
        }
        for path, (status, kind, body) in expected.items():
            async with session.get(served.url + path) as answer:
                assert (answer.status, answer.content_type, await answer.read()) == (
                    status, kind, body), path
                assert "Date" in answer.headers
        async with session.put(served.url + "/item") as answer:
            assert answer.status == 201 and answer.headers["Location"] == "/item/1"
            assert await answer.json() == {"made": True}
        async with session.post(served.url + "/echo", json={"a": [1, "é"]}) as answer:
            assert await answer.json() == {"a": [1, "é"]}


async def test_errors_are_problem_documents(
    parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make_routes(), parser=parser) as served, aiohttp.ClientSession() as session:
        async with session.get(served.url + "/teapot") as answer:
            assert answer.status == 418
            assert answer.content_type == "application/problem+json"
            assert await answer.json() == {
                "title": "I'm a Teapot", "status": 418, "detail": "short and stout",
                "spout": True}
        async with session.get(served.url + "/bug") as answer:
            assert answer.status == 500
            assert b"secret" not in await answer.read()
        async with session.get(served.url + "/none") as answer:
            assert answer.status == 404
        async with session.delete(served.url + "/echo") as answer:
            assert answer.status == 405 and answer.headers["Allow"] == "OPTIONS, POST"
        async with session.options(served.url + "/hello/you") as answer:
            assert answer.status == 204
            assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
        async with session.head(served.url + "/hello/you") as answer:
            assert answer.status == 200 and answer.headers["Content-Length"] == "15"
        async with session.post(served.url + "/echo", data=b"{") as answer:
            assert answer.status == 400
    assert "bug failed on GET '/bug'" in caplog.text


async def test_both_lanes_on_one_connection_in_order(parser: str) -> None:
    async with serving(make_routes(), make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send(get("/app") + get("/hello/a") + get("/stream") + get("/sum/1/2")
                  + b"POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nabcde"
                  + get("/hello/b"))
        bodies = [(await peer.answer()).body for _ in range(6)]
        peer.close()
        assert bodies == [b'{"app":"\\/app"}', b'{"hello":"a"}', b"0\n1\n2\n", b'{"sum":3}',
                          b"5", b'{"hello":"b"}']


@pytest.mark.parametrize("size", [0, 1, 20000, 900_000])
async def test_bodies_reach_the_application(parser: str, size: int) -> None:
    async with (
        serving(None, make_app(), parser=parser) as served,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(served.url + "/length", data=b"x" * size) as answer:
            assert await answer.text() == str(size)

        async def chunks() -> Any:
            for start in range(0, size, 7000):
                yield b"x" * min(7000, size - start)

        async with session.post(served.url + "/length", data=chunks()) as answer:
            assert await answer.text() == str(size)


async def test_websocket_beside_routes(parser: str) -> None:
    async with serving(make_routes(), make_app(), parser=parser) as served:
        async with aiohttp.ClientSession() as session, session.ws_connect(served.url + "/ws") as ws:
            await ws.send_str("one")
            assert await ws.receive_str() == "ONE"
            assert served.server.statistics()["websockets"] == 1
        await wait_until(lambda: not served.server.connections)


async def test_container_reaches_both_lanes() -> None:
    routes, app, child = Routes(), web.Application(), web.Application()
    container = object()
    seen: list[object] = []

    @routes.get("/direct")
    async def direct(request: Request) -> None:
        seen.append(request.container)

    async def hosted(request: web.Request) -> web.Response:
        seen.append(request.app[CONTAINER])
        return web.Response()

    app.router.add_get("/hosted", hosted)
    child.router.add_get("/x", hosted)
    app.add_subapp("/child", child)
    async with (
        serving(routes, app, context(container=container)) as served,
        aiohttp.ClientSession() as session,
    ):
        for path in ("/direct", "/hosted", "/child/x"):
            async with session.get(served.url + path) as answer:
                assert answer.ok
    assert seen == [container] * 3


async def test_what_an_endpoint_does_to_its_parameters_stays_with_it() -> None:
    routes = Routes()

    @routes.get("/{name}")
    def rename(request: Request) -> dict[str, str]:
        before = request.match_info["name"]
        request.match_info["name"] = "changed"
        return {"name": before}

    async with serving(routes) as served:
        peer = await served.connect()
        for _ in range(3):
            peer.send(get("/original"))
            assert (await peer.answer()).body == b'{"name":"original"}'
        peer.close()


async def test_endpoints_run_in_tasks_of_their_own() -> None:
    routes = Routes()
    variable = contextvars.ContextVar("variable", default=0)
    tasks = []

    @routes.get("/task")
    async def task(request: Request) -> dict[str, int]:
        tasks.append(asyncio.current_task())
        before = variable.get()
        variable.set(before + 1)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return {"before": before}

    async with serving(routes) as served:
        peer = await served.connect()
        for _ in range(2):
            peer.send(get("/task"))
            assert (await peer.answer()).body == b'{"before":0}'
        peer.close()
    assert None not in tasks and tasks[0] is not tasks[1]


async def test_blocking_endpoints_leave_the_loop_free() -> None:
    routes = Routes()
    release = threading.Event()

    @routes.get("/wait", blocking=True)
    def wait(request: Request) -> str:
        release.wait(5)
        return threading.current_thread().name

    @routes.get("/go")
    def go(request: Request) -> str:
        release.set()
        return "gone"

    async with serving(routes, threads=1, thread_backlog=0) as served:
        first, second = await served.connect(), await served.connect()
        first.send(get("/wait"))
        await wait_until(lambda: served.server.threads.waiting)
        second.send(get("/wait"))
        refused = await second.answer()
        assert refused.status == 503 and refused.headers["retry-after"] == "1"
        second.send(get("/go"))
        assert (await second.answer()).body == b"gone"
        assert (await first.answer()).body.startswith(b"apihour_http")
        first.close()
        second.close()


async def test_a_slow_inline_endpoint_is_named(caplog: pytest.LogCaptureFixture) -> None:
    routes = Routes()

    @routes.get("/slow")
    def sluggish(request: Request) -> dict[str, int]:
        time.sleep(0.03)
        return {}

    with caplog.at_level(logging.WARNING):
        async with serving(routes, slow_endpoint=0.02) as served:
            await served.ask(get("/slow", "Connection: close"))
    assert "sluggish blocked the loop for" in caplog.text
    assert "blocking=True" in caplog.text


@pytest.mark.parametrize("is_mixed", [False, True])
async def test_cancellation_on_disconnect_is_an_option(is_mixed: bool) -> None:
    routes = Routes()
    fates: list[str] = []
    started = asyncio.Event()

    @routes.get("/long")
    async def long(request: Request) -> str:
        started.set()
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            fates.append("cancelled")
            raise
        fates.append("finished")
        return ""

    for option, fate in ((True, "cancelled"), (False, "finished")):
        fates.clear()
        started.clear()
        app = web.Application() if is_mixed else None
        async with serving(routes, app, cancel_on_disconnect=option) as served:
            peer = await served.connect()
            peer.send(get("/none"))  # the application's, where there is one
            assert (await peer.answer()).status == 404
            peer.send(get("/long"))
            await started.wait()
            peer.writer.transport.abort()
            await wait_until(lambda: fates)
        assert fates == [fate]


async def test_a_half_closed_client_gets_its_answer() -> None:
    async with serving(make_routes()) as served:
        peer = await served.connect()
        peer.send(get("/hello/x"))
        peer.writer.write_eof()
        assert b'{"hello":"x"}' in await peer.rest()
        peer.close()


async def test_expect_100_continue() -> None:
    async with serving(make_routes()) as served:
        peer = await served.connect()
        head = b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: %s\r\n\r\n"
        peer.send(head % b"100-continue")
        assert (await peer.answer()).status == 100
        peer.send(b"[]")
        assert (await peer.answer()).body == b"[]"
        peer.send(head % b"coffee")
        assert (await peer.answer()).status == 417
        peer.close()


async def test_options_of_the_host_and_wrong_ones() -> None:
    async with serving(make_routes(), context=context(options={"max_body": 3})) as served:
        peer = await served.connect()
        peer.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nnull")
        assert (await peer.answer()).status == 413
        peer.close()
    with pytest.raises(ValueError, match=r"option 'max_bodi': expected one of"):
        HTTPServer(Routes(), max_bodi=3)
    with pytest.raises(ValueError, match="access_log='x': expected one of off"):
        HTTPServer(Routes(), access_log="x")
    with pytest.raises(TypeError, match="expected routes, an application, or both"):
        HTTPServer()


async def test_statistics_count_answers_and_times() -> None:
    async with serving(make_routes(), make_app()) as served:
        peer = await served.connect()
        for path in ("/hello/a", "/app", "/teapot", "/bug"):
            peer.send(get(path))
            await peer.answer()
        record = served.server.statistics()
        peer.close()
    assert record["requests"] == 4
    assert record["responses"] == {"2xx": 2, "3xx": 0, "4xx": 1, "5xx": 1}
    assert sum(record["latency"]["counts"]) == 4
    assert len(record["latency"]["counts"]) == len(record["latency"]["bounds"]) + 1
    assert record["latency"]["sum"] > 0
    assert record["connections"] == 1 and record["in_flight"] == 0


async def test_an_answer_of_aiohttp_without_a_ready_body_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = Routes()
    routes.get("/file")(lambda request: web.FileResponse(__file__))
    routes.get("/stream")(lambda request: web.StreamResponse())
    routes.get("/ready")(lambda request: web.Response(text="x"))
    async with serving(routes) as served, aiohttp.ClientSession(served.url) as session:
        for path, status in (("/file", 500), ("/stream", 500), ("/ready", 200)):
            async with session.get(path) as answer:
                assert answer.status == status, path
    told = "not prepared>: only answers with a ready body leave a direct endpoint\n"
    assert caplog.text.count(told) == 2


async def test_an_answer_without_a_body_has_no_type_for_it() -> None:
    routes = Routes()
    for status in (204, 304):
        routes.get(f"/{status}")(lambda request, status=status: Response(status, None, "x"))
    routes.get("/own")(lambda request: Response(304, {"Content-Type": "a/b"}, "x"))
    async with serving(routes) as served:
        for path, kind in (("/204", False), ("/304", False), ("/own", True)):
            raw = await served.ask(get(path, "Connection: close"))
            assert raw.endswith(b"\r\n\r\n") and b"Content-Length" not in raw
            assert (b"Content-Type" in raw) is kind, path


async def test_options_of_the_whole_server() -> None:
    ask = b"OPTIONS * HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    routes = make_routes()
    routes.options("/")(lambda request: "of the path")
    async with serving(routes) as served:
        raw = await served.ask(ask)
        assert raw.startswith(b"HTTP/1.1 204 ")
        assert b"Allow: GET, HEAD, OPTIONS, POST, PUT\r\n" in raw
        assert (await served.ask(ask.replace(b"*", b"/"))).endswith(b"of the path")
    async with serving(routes, make_app()) as served:
        assert (await served.ask(ask)).startswith(b"HTTP/1.1 404 ")
