"""What is wrong is told at start, in the words of whoever wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from apihour_http import HTTPServer, Request, Response, RouteError, Routes

from ..support import get, serving

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


class Item(msgspec.Struct):
    name: str


async def starting(routes: Routes) -> str:
    with pytest.raises(RouteError) as raised:
        async with serving(routes):
            pass
    return str(raised.value)


async def test_an_annotation_that_cannot_be_resolved() -> None:
    routes = Routes()

    @routes.post("/items")
    async def create(request: Request, item: Item, price: OnlyForCheckers) -> None: ...

    told = await starting(routes)
    assert told.startswith("POST /items: the annotation 'OnlyForCheckers' of 'price' cannot be")
    with pytest.raises(RouteError, match="OnlyForCheckers"):
        HTTPServer(routes).examine({}, {})  # apihour check
    assert "name 'OnlyForCheckers' is not defined" in told


async def test_the_request_may_be_annotated_for_type_checkers_alone() -> None:
    routes = Routes()

    @routes.get("/{number}")
    async def one(request: OnlyForCheckers, number: int) -> OnlyForCheckers:
        return number  # type: ignore[return-value]

    async with serving(routes) as served:
        assert (await served.ask(get("/7", "Connection: close"))).endswith(b"\r\n\r\n7")


async def test_two_parameters_from_one_body() -> None:
    routes = Routes()

    @routes.post("/items")
    async def create(request: Request, item: Item, others: list[Item]) -> None: ...

    assert "item and others are both the body: expected one" in await starting(routes)


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(("app", "message"), [
    (5, "HTTPServer(app=5): expected an aiohttp.web.Application or web.Server"),
    ("main:app", "expected an aiohttp.web.Application"),
    (web.Application, "expected an aiohttp.web.Application"),
    (asgi, "one of ASGI is a server by itself, without HTTPServer"),
])
def test_what_is_no_application(app: Any, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        HTTPServer(app=app)
    assert message in str(raised.value)


@pytest.mark.parametrize("with_middleware", [False, True])
async def test_answers_of_aiohttp_that_are_raised_mean_what_they_say(with_middleware: bool) -> None:
    seen: list[int] = []
    routes = Routes()
    if with_middleware:
        @routes.middleware
        async def look(request: Request, call: Any) -> Any:
            answer = await call(request)
            seen.append(answer.status)
            return answer

    @routes.get("/inline")
    def inline(request: Request) -> None:
        raise web.HTTPFound("/elsewhere")

    @routes.get("/later")
    async def later(request: Request) -> None:
        raise web.HTTPNotFound(text="no such thing")

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/inline") + get("/later"))
        answer = await peer.answer()
        assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
        answer = await peer.answer()
        assert (answer.status, answer.body) == (404, b"no such thing")
        assert seen == ([302, 404] if with_middleware else [])
        record = served.server.statistics()["responses"]
        assert (record["3xx"], record["4xx"], record["5xx"]) == (1, 1, 0)
        peer.close()


async def test_a_preflight_goes_to_whom_the_request_will_go() -> None:
    routes = Routes()

    @routes.middleware
    async def cors(request: Request, call: Any) -> Any:
        answer = await call(request)
        answer.headers.append(("Access-Control-Allow-Origin", "*"))
        return answer

    routes.put("/shared")(lambda request: Response(204))
    app = web.Application()

    async def options(request: web.Request) -> web.Response:
        return web.Response(headers={"Access-Control-Allow-Origin": "app"})

    app.router.add_route("OPTIONS", "/{rest:.*}", options)
    async with serving(routes, app) as served:
        peer = await served.connect()
        for path, asked, origin in (("/shared", "PUT", "*"), ("/shared", "POST", "app"),
                                    ("/other", "PUT", "app"), ("/shared", "", "app")):
            lines = [f"Access-Control-Request-Method: {asked}"] if asked else []
            peer.send(get(path, "Origin: http://x", *lines).replace(b"GET", b"OPTIONS"))
            answer = await peer.answer()
            assert answer.headers["access-control-allow-origin"] == origin, (path, asked)
        peer.close()
