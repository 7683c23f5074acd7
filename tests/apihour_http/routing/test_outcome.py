"""The status that a route declares, tuples, and endpoints that take no request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from apihour_http import HTTPError, HTTPServer, Request, Response, Routes
from apihour_http.errors import RouteError

from ..support import context, get, serving


@dataclasses.dataclass
class Item:
    name: str


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize("style", ["inline", "async", "blocking", "arguments"])
async def test_the_declared_status_is_sent(style: str) -> None:
    routes = Routes()
    results: dict[str, Any] = {
        "dict": {"a": 1}, "none": None, "text": "x", "model": Item("x"), "list": [1],
        "response": Response(202, None, "own"), "aiohttp": web.Response(status=203, text="own"),
    }

    def pick(name: str) -> Any:
        if name == "error":
            raise HTTPError(404)
        return results[name]

    if style == "async":
        @routes.post("/{name}", status=201)
        async def later(request: Request) -> Any:
            return pick(request.match_info["name"])
    elif style == "arguments":
        @routes.post("/{name}", status=201)
        async def named(request: Request, name: str) -> Any:
            return pick(name)
    else:
        @routes.post("/{name}", status=201, blocking=style == "blocking")
        def now(request: Request) -> Any:
            return pick(request.match_info["name"])

    expected = {
        "dict": (201, b'{"a":1}'), "none": (201, b""), "text": (201, b"x"), "list": (201, b"[1]"),
        "model": (201, b'{"name":"x"}'), "response": (202, b"own"), "aiohttp": (203, b"own"),
    }
    async with serving(routes, openapi=True) as served:
        peer = await served.connect()
        for name, wanted in expected.items():
            for _ in range(2):
                peer.send(get(f"/{name}").replace(b"GET", b"POST"))
                answer = await peer.answer()
                assert (answer.status, answer.body) == wanted, name
        peer.send(get("/error").replace(b"GET", b"POST"))
        assert (await peer.answer()).status == 404
        peer.send(get("/openapi.json"))
        assert b'"201"' in (await peer.answer()).body
        peer.close()


@pytest.mark.parametrize("status", [100, 99, 600, "201", None, 200.0])
def test_a_status_that_cannot_be_sent_is_refused(status: Any) -> None:
    with pytest.raises(RouteError, match=r"route POST /x: status=.*: expected 200 to 599"):
        Routes().post("/x", status=status)


@pytest.mark.parametrize("status", [200, 201])
async def test_a_tuple_is_an_error_that_says_what_to_write(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    routes = Routes()

    @routes.get("/missing", status=status)
    async def missing(request: Request) -> Any:
        return {"error": "no such thing"}, 404

    routes.get("/named", status=status)(lambda request: Pair(1, 2))
    routes.get("/within", status=status)(lambda request: [(1, 2)])
    async with serving(routes) as served:
        peer = await served.connect()
        for path, wanted, body in (("/missing", 500, None), ("/named", status, b"[1,2]"),
                                   ("/within", status, b"[[1,2]]")):
            peer.send(get(path))
            answer = await peer.answer()
            assert answer.status == wanted and body in (None, answer.body)
        peer.close()
    assert "missing failed on GET '/missing'" in caplog.text
    assert "returned the tuple ({'error': 'no such thing'}, 404): for a status" in caplog.text


def no_parameter() -> None: ...
async def in_path(id: int) -> None: ...
def only_named(*, request: Request) -> None: ...
def data(count: int) -> None: ...


@pytest.mark.parametrize("function, wanted", [
    (no_parameter, r"no_parameter\(\): expected the request as its first parameter: "
                   r"no_parameter\(request\)"),
    (in_path, r"in_path\(id: 'int'\): expected .*: in_path\(request, id: 'int'\)"),
    (only_named, "expected the request as its first parameter"),
    (data, "expected the request as its first parameter"),
    (lambda: None, "expected the request as its first parameter"),
])
def test_an_endpoint_without_a_request_is_told_where_it_is_declared(
    function: Callable[..., Any], wanted: str
) -> None:
    with pytest.raises(RouteError, match=r"route GET /x/\{id\}: .*" + wanted):
        Routes().get("/x/{id}")(function)


async def test_a_model_in_the_requests_place_is_told_at_start() -> None:
    routes = Routes()

    @routes.post("/items")
    async def add(item: Item) -> None: ...

    with pytest.raises(RouteError, match="expected the request before 'item'"):
        await HTTPServer(routes).start(context())


async def test_endpoints_of_every_other_shape_are_taken() -> None:
    routes = Routes()

    class Views:
        def method(self, request: Request) -> str:
            return "method"

        def __call__(self, request: Request) -> str:
            return "call"

    routes.get("/method")(Views().method)
    routes.get("/call")(Views())
    routes.get("/any")(lambda *args: "any")
    routes.get("/kept")(lambda request, kept="kept": kept)
    routes.get("/builtin")(repr)
    async with serving(routes) as served:
        peer = await served.connect()
        for path in ("method", "call", "any", "kept"):
            peer.send(get(f"/{path}"))
            assert (await peer.answer()).body == path.encode()
        peer.close()
