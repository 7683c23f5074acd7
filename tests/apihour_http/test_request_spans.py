"""Spans of requests: of endpoints, of applications that are hosted, of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from apihour_asgi import ASGIServer
from apihour_http import HTTPClient, HTTPError, HTTPServer, Response, Routes
from apihour_http.testing import Client
from tests.apihour.engines.support import running
from tests.spans import Traced

from .support import context

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOLD = {"traceparent": f"00-{TRACE}-{PARENT}-01", "User-Agent": "tests", "Cookie": "hidden-value"}
routes = Routes()


class DownError(Exception):
    """As an engine's that is down."""

    http_status = 503


@routes.get("/plain/{id}")
def plain(request: Any) -> dict[str, Any]:
    return {}


@routes.get("/later")
async def later(request: Any) -> Response:
    with request.container.tracer.start_as_current_span("inner"):
        await asyncio.sleep(0)
    return Response(status=204)


@routes.get("/wrong")
def wrong(request: Any) -> None:
    raise ValueError("hidden-value")


@routes.get("/refused")
async def refused(request: Any) -> None:
    raise HTTPError(409)


@routes.get("/down")
async def down(request: Any) -> None:
    raise DownError("hidden-value")


@asynccontextmanager
async def serving(server: Any, container: Any = None) -> AsyncIterator[int]:
    """Serve it on a free port, which is given."""
    await server.start(context(container=container))
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.stop()


async def ask(served: Any, path: str) -> tuple[int, Traced]:
    """Ask `served` within a container that traces."""
    traced = Traced()
    container = SimpleNamespace(tracer=traced.tracer)
    async with (serving(served, container=container) as port,
                Client(f"127.0.0.1:{port}") as client):
        answer = await client.get(path, headers=TOLD)
    assert "hidden-value" not in "".join(one.to_json() for one in traced.spans)
    return answer.status, traced


@pytest.mark.parametrize(("path", "name", "status", "error"), [
    ("/plain/7?token=hidden-value", "GET /plain/{id}", 200, None),
    ("/wrong", "GET /wrong", 500, "ValueError"),
    ("/refused", "GET /refused", 409, None),
    ("/down", "GET /down", 503, "DownError"),
])
async def test_an_endpoint(path: str, name: str, status: int, error: str | None) -> None:
    answered, traced = await ask(HTTPServer(routes), path)
    (span,) = traced.spans
    assert (answered, span.name, span.kind.name) == (status, name, "SERVER")
    told = span.attributes
    assert told["http.request.method"] == "GET" and told["http.route"] == name[4:]
    assert told["url.path"] == path.partition("?")[0] and told["url.scheme"] == "http"
    assert told["http.response.status_code"] == status and told["client.address"] == "127.0.0.1"
    assert told["user_agent.original"] == "tests" and told.get("error.type") == error
    assert span.status.is_ok == (status < 500)
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)


@pytest.mark.parametrize("fields", [
    b"traceparent: " + b"\xff" * 3000, b"traceparent: 00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
    b"baggage: " + b"a=b," * 1500, b"tracestate: " + b"a=b," * 900, b"baggage: \x9b2J;;=,=",
    b"traceparent: 00-" + TRACE.encode() + b"-" + PARENT.encode() + b"-01\r\ntraceparent: x"])
async def test_what_a_client_says_of_its_trace_is_hostile(
    fields: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    traced = Traced()
    async with serving(HTTPServer(routes), SimpleNamespace(tracer=traced.tracer)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /plain/%1b%5b2J HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     b"User-Agent: \x9b2J" + b"x" * 3000 + b"\r\n" + fields + b"\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    (span,) = traced.spans
    assert span.parent is None and not caplog.records
    assert span.attributes["url.path"] == "/plain/%1b%5b2J"
    agent = span.attributes["user_agent.original"]
    assert agent.startswith("\\x9b2J") and len(agent) < 1100


async def test_what_an_endpoint_does_is_within_its_span() -> None:
    answered, traced = await ask(HTTPServer(routes), "/later")
    inner, span = traced.named("inner"), traced.named("GET /later")
    assert answered == span.attributes["http.response.status_code"] == 204
    assert inner.parent.span_id == span.context.span_id


async def test_it_is_measured_at_once_and_two_servers_share_it() -> None:
    traced = Traced()
    container = SimpleNamespace(tracer=traced.tracer)
    first, second = HTTPServer(routes), HTTPServer(routes)
    async with serving(first, container=container), serving(second, container=container) as port:
        measuring = asyncio.create_task(second.measure(0.5))
        await asyncio.sleep(0)
        async with Client(f"127.0.0.1:{port}") as client:
            await client.get("/plain/7")
        (row,) = await measuring
    assert row["route"] == "GET /plain/{id}" and row["requests"] == 1
    assert len(traced.spans) == 1


async def test_an_application_of_aiohttp() -> None:
    async def hosted(request: web.Request) -> web.Response:
        return web.Response(status=502)

    app = web.Application()
    app.router.add_get("/hosted/{id}", hosted)
    answered, traced = await ask(HTTPServer(app=app), "/hosted/7?token=hidden-value")
    (span,) = traced.spans
    assert (answered, span.name) == (502, "GET /hosted/{id}")
    assert span.attributes["http.response.status_code"] == 502 and not span.status.is_ok
    assert span.attributes["url.path"] == "/hosted/7"
    assert f"{span.parent.span_id:016x}" == PARENT


async def test_an_application_of_asgi() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"made"})

    answered, traced = await ask(ASGIServer(app, lifespan="off"), "/made")
    (span,) = traced.spans
    assert (answered, span.name) == (201, "GET")
    assert span.attributes["http.response.status_code"] == 201
    assert f"{span.context.trace_id:032x}" == TRACE


async def test_the_client_tells_its_trace() -> None:
    other = Routes()
    heard: list[str] = []

    @other.get("/price")
    def price(request: Any) -> dict[str, Any]:
        heard.append(request.headers["traceparent"])
        return {}

    traced = Traced()
    async with serving(HTTPServer(other)) as port:
        engine = HTTPClient(f"http://127.0.0.1:{port}")
        async with running(engine, container=SimpleNamespace(tracer=traced.tracer)):
            with traced.tracer.start_as_current_span("request") as request:
                for path in "/price?token=hidden-value", "/nowhere":
                    async with engine.session.get(path):
                        pass
                with pytest.raises(OSError):
                    await engine.session.get("http://127.0.0.1:1/")
    *asked, _ = traced.spans
    assert [one.attributes.get("http.response.status_code") for one in asked] == [200, 404, None]
    assert [one.status.is_ok for one in asked] == [True, False, False]
    assert all(one.parent.span_id == request.context.span_id for one in asked)
    first = asked[0]
    assert [one.rpartition("-")[0] for one in heard] == [
        f"00-{first.context.trace_id:032x}-{first.context.span_id:016x}"]
    assert first.attributes["url.full"] == f"http://127.0.0.1:{port}/price"
    assert "hidden-value" not in first.to_json()
