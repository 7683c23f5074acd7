"""Middlewares and exception handlers: order, what they see, what they cost, misuse."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apihour_http import (
    HTTPError,
    Request,
    Response,
    RouteError,
    Routes,
    Stream,
    WebSocket,
    WebSocketDisconnect,
)

from ..support import Served, get, serving, wait_until


async def ask(served: Served, path: str, method: bytes = b"GET") -> Any:
    peer = await served.connect()
    peer.send(get(path).replace(b"GET", method))
    answer = await peer.answer(head=method == b"HEAD")
    peer.close()
    return answer


def marking(routes: Routes, name: str, seen: list[str]) -> None:
    @routes.middleware
    async def mark(request: Request, call: Callable[[Request], Any]) -> Any:
        seen.append(f"{name} in")
        answer = await call(request)
        answer.headers.append(("X-Mark", name))
        seen.append(f"{name} {answer.status}")
        return answer


async def test_outer_tables_stand_outside_and_the_first_declared_too() -> None:
    seen: list[str] = []
    inner, outer = Routes("/users"), Routes("/v1")
    marking(outer, "a", seen)
    marking(outer, "b", seen)
    marking(inner, "c", seen)

    @inner.get("/{id:int}")
    def user(request: Request) -> dict[str, Any]:
        return {"id": request.match_info["id"], "path": request.path}

    @outer.get("/other", status=202)
    async def other(request: Request) -> str:
        return "other"

    outer.include(inner, prefix="/api")
    async with serving(outer) as served:
        answer = await ask(served, "/v1/api/users/3")
        assert json.loads(answer.body) == {"id": 3, "path": "/v1/api/users/3"}
        assert seen == ["a in", "b in", "c in", "c 200", "b 200", "a 200"]
        seen.clear()
        assert (await ask(served, "/v1/other")).status == 202
        assert seen == ["a in", "b in", "b 202", "a 202"]


async def test_middlewares_of_the_server_see_what_no_route_claims() -> None:
    seen: list[str] = []
    routes = Routes()
    marking(routes, "m", seen)
    routes.post("/x")(lambda request: None)
    async with serving(routes, openapi=True) as served:
        for path, method, status in (
            ("/none", b"GET", 404), ("/x", b"GET", 405), ("/x", b"OPTIONS", 204),
            ("/x", b"POST", 204), ("/openapi.json", b"GET", 200),
        ):
            answer = await ask(served, path, method)
            assert (answer.status, answer.headers["x-mark"]) == (status, "m")
            assert seen[-1] == f"m {status}"
        answer = await ask(served, "/x")
        assert answer.headers["content-type"] == "application/problem+json"
        assert "POST" in answer.headers["allow"]


async def test_a_middleware_sees_every_answer_and_may_replace_it() -> None:
    statuses: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        yield b"streamed"

    results: dict[str, Any] = {
        "dict": {"a": 1}, "text": "x", "none": None, "list": [1], "response": Response(201),
        "error": HTTPError(409, "no", headers={"X-Why": "w"}, code=5), "stream": Stream(body()),
    }
    routes = Routes()

    @routes.middleware
    async def look(request: Request, call: Callable[[Request], Any]) -> Any:
        if "replace" in request.query:
            return {"replaced": True}
        answer = await call(request)
        statuses.append(answer.status)
        return answer

    @routes.get("/{which}")
    def endpoint(request: Request) -> Any:
        result = results[request.match_info["which"]]
        if isinstance(result, HTTPError) and "raise" in request.query:
            raise result
        return result

    async with serving(routes) as served:
        for which, status in (("dict", 200), ("text", 200), ("none", 204), ("list", 200),
                              ("response", 201), ("error", 409), ("error?raise", 409),
                              ("stream", 200)):
            answer = await ask(served, f"/{which}")
            assert answer.status == status == statuses[-1], which
            if status == 409:
                assert answer.headers["x-why"] == "w" and json.loads(answer.body)["code"] == 5
        assert answer.body == b"streamed"
        assert (await ask(served, "/text?replace")).body == b'{"replaced":true}'
        assert (await ask(served, "/text", b"HEAD")).headers["content-length"] == "1"


async def test_one_that_refuses_comes_before_the_body_is_validated() -> None:
    routes = Routes()

    @routes.middleware
    async def authenticate(request: Request, call: Callable[[Request], Any]) -> Any:
        if "Authorization" not in request.headers:
            raise HTTPError(401, "who are you?")
        return await call(request)

    @routes.get("/items")
    async def items(request: Request, count: int) -> int:
        return count

    async with serving(routes) as served:
        assert (await ask(served, "/items?count=x")).status == 401
        peer = await served.connect()
        peer.send(get("/items?count=x", "Authorization: me"))
        assert (await peer.answer()).status == 422
        peer.close()


async def test_other_exceptions_pass_through_and_are_logged_once() -> None:
    import asyncio

    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    seen: list[BaseException] = []
    routes = Routes()

    @routes.middleware
    async def look(request: Request, call: Callable[[Request], Any]) -> Any:
        try:
            return await call(request)
        except ValueError as error:
            seen.append(error)
            raise

    @routes.get("/")
    def endpoint(request: Request) -> None:
        raise ValueError("boom")

    async with serving(routes) as served:
        assert (await ask(served, "/")).status == 500
    assert len(seen) == len(told) == 1 and told[0]["exception"] is seen[0]


class NotFound(LookupError):
    pass


@pytest.mark.parametrize("form", ["inline", "async", "blocking"])
@pytest.mark.parametrize("handler_form", ["def", "async def"])
async def test_the_handler_of_the_nearest_class_answers(form: str, handler_form: str) -> None:
    routes, inner = Routes(), Routes()

    def answering(text: str) -> Any:
        def handler(request: Request, error: Exception) -> Response:
            return Response(400, None, f"{text}: {error}")

        async def later(request: Request, error: Exception) -> Response:
            return handler(request, error)

        return handler if handler_form == "def" else later

    routes.exception_handler(Exception)(answering("any"))
    routes.exception_handler(LookupError)(answering("outer lookup"))
    inner.exception_handler(LookupError)(answering("inner lookup"))
    errors: dict[str, Exception] = {
        "not-found": NotFound("n"), "key": KeyError("k"), "value": ValueError("v"),
        "http": HTTPError(418, "tea"),
    }

    def fail(request: Request) -> None:
        raise errors[request.match_info["which"]]

    async def fail_later(request: Request) -> None:
        fail(request)

    for table in (routes, inner):
        path = "/{which}" if table is routes else "/in/{which}"
        if form == "async":
            table.get(path)(fail_later)
        else:
            table.get(path, blocking=form == "blocking")(fail)
    routes.include(inner)
    async with serving(routes) as served:
        for path, body in (
            ("/not-found", b"outer lookup: n"), ("/in/not-found", b"inner lookup: n"),
            ("/in/key", b"inner lookup: 'k'"), ("/value", b"any: v"), ("/in/value", b"any: v"),
            ("/http", b"any: 418 tea"),
        ):
            answer = await ask(served, path)
            assert (answer.status, answer.body) == (400, body)
    is_inline = all(e.inline for e in routes)
    assert is_inline == (form == "inline" and handler_form == "def")


async def test_handlers_take_what_middlewares_raise_and_what_no_route_claims() -> None:
    routes = Routes()

    @routes.middleware
    async def refuse(request: Request, call: Callable[[Request], Any]) -> Any:
        if request.path == "/refused":
            raise HTTPError(403)
        answer = await call(request)
        answer.headers.append(("X-Seen", str(answer.status)))
        return answer

    @routes.exception_handler(HTTPError)
    async def page(request: Request, error: HTTPError) -> Response:
        return Response(error.status, {"Content-Type": "text/html"}, f"<h1>{error.status}</h1>")

    async with serving(routes) as served:
        answer = await ask(served, "/none")
        assert answer.body == b"<h1>404</h1>" and answer.headers["x-seen"] == "404"
        answer = await ask(served, "/refused")
        assert answer.body == b"<h1>403</h1>" and "x-seen" not in answer.headers


async def test_a_handler_may_raise_another_error_and_must_not_return_data() -> None:
    import asyncio

    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    routes = Routes()

    @routes.exception_handler(KeyError)
    def missing(request: Request, error: KeyError) -> Any:
        raise HTTPError(404)

    @routes.exception_handler(ValueError)
    def careless(request: Request, error: ValueError) -> Any:
        return {"status": "bad"}

    @routes.get("/{which}")
    def fail(request: Request) -> None:
        raise KeyError if request.match_info["which"] == "key" else ValueError

    async with serving(routes) as served:
        assert (await ask(served, "/key")).status == 404
        assert (await ask(served, "/value")).status == 500
    assert "careless returned {'status': 'bad'}: expected Response" in str(told[0]["exception"])


async def test_an_endpoint_without_either_is_called_as_it_was() -> None:
    routes, guarded = Routes(), Routes("/guarded")

    @routes.get("/")
    async def endpoint(request: Request) -> None: ...

    @guarded.middleware
    async def guard(request: Request, call: Callable[[Request], Any]) -> Any:
        return await call(request)

    @guarded.get("/")
    async def inside(request: Request) -> None: ...

    routes.include(guarded)
    async with serving(routes):
        free, bound = routes.endpoints
        assert free.call is endpoint and bound.call is not inside


def refused(declare: Callable[[], Any]) -> str:
    with pytest.raises(RouteError) as raised:
        declare()
    return str(raised.value)


def test_misuse_is_told_where_it_is_declared() -> None:
    routes, other = Routes(), Routes()

    def plain(request: Any, call: Any) -> Any: ...

    async def one(request: Any) -> Any: ...

    async def endpoint(request: Any) -> Any: ...

    for function in (plain, one, 5, functools.partial(plain, None)):
        assert "expected async def middleware(request, call)" in refused(
            functools.partial(routes.middleware, function))
    assert "exception_handler(5): expected a class" in refused(
        lambda: routes.exception_handler(5)(plain))  # type: ignore[arg-type]
    assert "expected a class of exceptions" in refused(
        lambda: routes.exception_handler(KeyboardInterrupt)(plain))  # type: ignore[arg-type]
    assert "one: expected a function (request, error)" in refused(
        lambda: routes.exception_handler(KeyError)(one))
    routes.exception_handler(KeyError)(plain)
    assert "declared twice" in refused(lambda: routes.exception_handler(KeyError)(plain))
    assert "include(5): expected other Routes" in refused(
        lambda: routes.include(5))  # type: ignore[arg-type]
    assert "expected other Routes" in refused(lambda: routes.include(routes))
    assert "prefix 'api'" in refused(lambda: routes.include(other, prefix="api"))
    routes.include(other)
    assert "declared after its table was included" in refused(lambda: other.get("/x")(endpoint))
    assert "endpoint: expected a path, @routes.get(\"/path\")" in refused(
        lambda: routes.get(endpoint))  # type: ignore[arg-type]


def test_an_include_that_is_refused_changes_nothing() -> None:
    routes, other = Routes(), Routes()
    routes.get("/b")(lambda request: None)
    other.get("/a")(lambda request: None)
    other.get("/b")(lambda request: None)
    assert "declared twice" in refused(lambda: routes.include(other))
    assert [e.path for e in routes] == ["/b"]


BAD_HEADERS: list[tuple[str, Any, str]] = [
    ("Content-Length", "1", "is set by the server"), ("date", "x", "is set by the server"),
    ("Transfer-Encoding", "chunked", "is set by the server"),
    ("Connection", "close", "is set by the server"), ("X y", "1", "expected a token"),
    ("", "1", "expected a token"), ("X: y", "1", "expected a token"), ("X", 5, "expected text"),
    ("X", "a\x0bb", "control characters"), ("X", "a\r\nB: c", "control characters"),
]


@pytest.mark.parametrize("way", ["append", "replace", "insert"])
async def test_a_header_that_is_added_is_judged_as_any(way: str) -> None:
    """The framing is ours: two lengths of one answer would be two answers to a proxy."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, what: told.append(str(what["exception"])))
    routes = Routes()

    @routes.middleware
    async def add(request: Request, call: Callable[[Request], Any]) -> Any:
        answer = await call(request)
        name, value, _ = BAD_HEADERS[request.match_info["which"]]
        if way == "append":
            answer.headers.append((name, value))
        elif way == "insert":
            answer.headers.insert(0, (name, value))
        else:
            answer.headers = [(name, value)]
        return answer

    @routes.get("/data/{which:int}")
    async def data(request: Request) -> Any:
        return {"data": 1}

    @routes.get("/response/{which:int}")
    def response(request: Request) -> Any:
        return Response(200, {"X": "y"})

    async with serving(routes) as served:
        for which, (_, _, message) in enumerate(BAD_HEADERS):
            for path in ("data", "response"):
                assert (await ask(served, f"/{path}/{which}")).status == 500
                assert message in told.pop()
    assert not told


async def test_a_205_has_no_body() -> None:
    routes = Routes()

    @routes.get("/")
    async def endpoint(request: Request) -> Response:
        return Response(205, body="x")

    async with serving(routes) as served:
        answer = await ask(served, "/")
        assert (answer.status, answer.headers["content-length"]) == (205, "0")


@pytest.mark.parametrize("kind", [Exception, OSError, None])
async def test_a_client_that_leaves_is_no_failure_for_a_handler(
    kind: type[Exception] | None,
) -> None:
    """One of its own class may look at it; a broad one would call each end an error."""
    taken: list[str] = []
    ended: list[str] = []
    routes = Routes()

    def take(request: Request, error: Exception) -> Response:
        taken.append(type(error).__name__)
        return Response(500)

    for one in (WebSocketDisconnect, ConnectionResetError) if kind is None else (kind,):
        routes.exception_handler(one)(take)

    @routes.websocket("/ws")
    async def ws(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive()
        finally:
            ended.append("ws")

    @routes.put("/up", stream_body=True)
    async def up(request: Request) -> None:
        try:
            await request.read()
        finally:
            ended.append("up")

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/ws", "Connection: upgrade", "Upgrade: websocket",
                      "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))
        assert (await peer.answer()).status == 101
        peer.writer.transport.abort()
        peer = await served.connect()
        peer.send(b"PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
        peer.writer.transport.abort()
        await wait_until(lambda: sorted(ended) == ["up", "ws"])
        await wait_until(lambda: not served.server.connections)
        assert taken == (["WebSocketDisconnect"] if kind is None else [])
