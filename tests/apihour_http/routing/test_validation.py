"""Annotated endpoints, the OpenAPI document and its page."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from typing import Any, cast

import aiohttp
import msgspec
import pytest

from apihour_http import HTTPError, HTTPServer, Request, RouteError, Routes
from apihour_http.received import Received
from apihour_http.routing.validation import Argument, Plan
from apihour_http.testing import Client

from ..support import serving


class Item(msgspec.Struct):
    name: str
    price: float
    tags: list[str] = []


@dataclasses.dataclass
class Search:
    text: str
    limit: int = 10
    tag: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Order:
    items: list[Item]


def make() -> Routes:
    routes = Routes()

    @routes.post("/items", tags=["items"], status=200)
    async def create(request: Request, item: Item) -> Item:
        """Create an item.

        It is kept for ever.
        """
        return item

    @routes.post("/orders")
    def order(request: Request, order: Order) -> dict[str, int]:
        return {"count": len(order.items)}

    @routes.get("/search")
    def search(request: Request, query: Search) -> Any:
        return query

    @routes.get("/items/{number}")
    async def one(request: Request, number: int, verbose: bool = False) -> Any:
        return {"number": number, "verbose": verbose}

    @routes.get("/plain/{number:int}")
    def plain(request: Request) -> Any:
        return {}

    return routes


class Nested(msgspec.Struct):
    within: Nested | None = None
    name: str = ""


@pytest.mark.parametrize(("body", "why"), [
    (b"{", "truncated"), (b'{"within": NaN}', "invalid character"), (b'{"name": "\xff"}', "utf-8"),
    (b'{"within":' * 50_000, "recursion"),
])
async def test_a_body_that_is_no_json_is_400_whatever_it_is(body: bytes, why: str) -> None:
    routes = Routes()

    @routes.post("/")
    async def nested(request: Request, body: Nested) -> str:
        return body.name

    async with Client(routes) as client:
        answer = await client.post("/", data=body)
    assert answer.status == 400
    assert why in answer.json()["detail"]


async def test_arguments_are_decoded_and_checked() -> None:
    async with serving(make()) as served, aiohttp.ClientSession(served.url) as session:
        async def ask(method: str, path: str, **more: Any) -> tuple[int, Any]:
            async with session.request(method, path, **more) as answer:
                return answer.status, await answer.json(content_type=None)

        item = {"name": "a", "price": 1.5, "tags": ["x"]}
        assert await ask("POST", "/items", json=item) == (200, item)
        status, problem = await ask("POST", "/items", json={**item, "tags": ["x", 3]})
        assert status == 422
        assert problem["errors"] == [
            {"path": "$.tags[1]", "in": "body", "message": "Expected `str`, got `int`"}]
        status, problem = await ask("POST", "/orders", json={"items": [item, {"name": "b"}]})
        assert status == 422 and problem["errors"][0]["path"] == "$.items[1]"
        assert await ask("POST", "/orders", json={"items": [item]}) == (200, {"count": 1})
        assert (await ask("POST", "/items", data=b"{"))[0] == 400
        assert (await ask("POST", "/items", data="x", headers={"Content-Type": "text/csv"}))[0] \
            == 415
        assert await ask("GET", "/search?text=a&limit=3&tag=x&tag=y") == (
            200, {"text": "a", "limit": 3, "tag": ["x", "y"]})
        status, problem = await ask("GET", "/search?text=a&limit=x")
        assert status == 422 and problem["errors"][0]["path"] == "$.limit"
        assert await ask("GET", "/items/7?verbose=true") == (200, {"number": 7, "verbose": True})
        assert (await ask("GET", "/items/7?verbose=perhaps"))[0] == 422
        status, problem = await ask("GET", "/items/x")
        assert status == 422 and problem["errors"][0]["in"] == "path.number"


class Asked(Received):
    """A request whose query has one parameter; what is percent-encoded in it is known."""

    def __init__(self, value: str) -> None:
        self.target = b"/path?other=1&number=" + value.encode()
        self.query = self
        self.held = {"number": [value]}.get


@pytest.mark.parametrize("value", [
    "0", "7", "42", "100001", "9" * 18, "9" * 19, "9" * 5000, "007", "00", "-5", "-0", "+5", " 5",
    "5 ", "1_0", "\u0663", "\u00b2", "5\u0663", "1e3", "1.0", "1.5", "", '"5"', "0x10", "true",
])
def test_a_number_is_what_the_library_says_it_is(value: str) -> None:
    (_, read), = Plan((Argument("number", "query", int),), None).readers()
    try:
        expected = msgspec.convert(value, int, strict=False)
    except msgspec.ValidationError as error:
        with pytest.raises(HTTPError, match=re.escape(str(error))) as caught:
            read(cast("Request", Asked(value)))
        assert caught.value.status == 422
    else:
        found = read(cast("Request", Asked(value)))
        assert (found, type(found)) == (expected, type(expected))


def test_a_number_that_is_not_there_or_there_twice() -> None:
    (_, read), = Plan((Argument("missing", "query", int, 7),), None).readers()
    assert read(cast("Request", Asked("5"))) == 7
    (_, read), = Plan((Argument("missing", "query", int),), None).readers()
    with pytest.raises(HTTPError, match=r"query\.missing: missing"):
        read(cast("Request", Asked("5")))
    (_, read), = Plan((Argument("number", "query", int),), None).readers()
    assert read(cast("Request", Asked("5&number=6"))) == 6


def named_only(function: Any) -> Any:
    """A decorator whose function gives its arguments by their names alone."""
    @functools.wraps(function)
    def call(request: Request, **named: Any) -> Any:
        return function(request, **named)

    return call


async def test_however_an_endpoint_declares_its_arguments_it_has_them() -> None:
    routes = Routes()

    @routes.get("/in/{a}/{b}")
    def in_order(request: Request, a: int, b: str) -> Any:
        return [a, b]

    @routes.get("/other/{a}/{b:int}")
    def other(request: Request, b: int, c: int = 3, *, a: int) -> Any:
        return [a, b, c]

    @routes.get("/only/{a}/{b}")
    @named_only
    def only(request: Request, b: int, a: float) -> Any:
        return [a, b]

    @routes.get("/left/{a}/{b}")
    def left(request: Request, a: int, more=7, b: int = 0) -> Any:  # type: ignore[no-untyped-def]
        return [a, b, more]

    @routes.get("/query")
    def query(request: Request, m: int, tag: list[str] = [], ä: str = "-") -> Any:  # noqa: B006
        return [m, tag, ä]

    asked = {
        "/in/1/2": [1, "2"], "/other/1/2?c=4": [1, 2, 4], "/other/1/2": [1, 2, 3],
        "/only/1/2": [1.0, 2], "/left/1/2?more=8": [1, 2, 7],
        "/query?m=1&tag=a&m=2&tag=b": [2, ["a", "b"], "-"], "/query?m=%33&%C3%A4=b": [3, [], "b"],
        "/query?m=1&ä=c": [1, [], "c"],
        "/query?" + "m=1&" * 70 + "m=5": [5, [], "-"]}
    refused = {"/query": "missing", "/query?m": "Expected `int`, got `str`",
               "/query?m=1&m=": "Expected `int`, got `str`", "/query?mm=1": "missing",
               "/in/x/2": "Expected `int`, got `str`"}
    async with serving(routes) as served, aiohttp.ClientSession(served.url) as session:
        for path, expected in asked.items():
            async with session.get(path) as answer:
                assert await answer.json() == expected, path
        for path, said in refused.items():
            async with session.get(path) as answer:
                assert answer.status == 422, path
                assert (await answer.json())["errors"][0]["message"] == said, path


async def test_the_document_and_its_page() -> None:
    async with (
        serving(make(), title="Shop <1>") as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        async with session.get("/openapi.json") as answer:
            found = await answer.json()
        async with session.get("/docs") as answer:
            page = await answer.text()
            assert answer.content_type == "text/html"
    assert found["openapi"] == "3.1.0" and found["info"]["title"] == "Shop <1>"
    assert set(found["paths"]) == {
        "/items", "/orders", "/search", "/items/{number}", "/plain/{number}"}
    create = found["paths"]["/items"]["post"]
    assert create["summary"] == "Create an item." and create["tags"] == ["items"]
    assert create["description"] == "It is kept for ever."
    assert create["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Item"}
    assert "422" in create["responses"]
    parameters = found["paths"]["/items/{number}"]["get"]["parameters"]
    assert [(p["name"], p["in"], p["required"]) for p in parameters] == [
        ("number", "path", True), ("verbose", "query", False)]
    assert set(found["components"]["schemas"]) >= {"Item", "Order"}
    assert "Shop &lt;1&gt;" in page and "http://" not in page and "https://" not in page
    assert "<script" not in page


async def test_what_is_made_of_models_is_the_body() -> None:
    routes = Routes()

    @routes.post("/perhaps")
    def perhaps(request: Request, item: Item | None = None) -> Any:
        return item.name if item else "none"

    @routes.post("/several")
    def several(request: Request, items: list[Item]) -> str:
        return ",".join(item.name for item in items)

    @routes.get("/named")
    def named(request: Request, name: str | None = None, tags: list[str] = []) -> Any:  # noqa: B006
        return {"name": name, "tags": tags}

    item = {"name": "a", "price": 1}
    async with serving(routes) as served, aiohttp.ClientSession(served.url) as session:
        async def ask(method: str, path: str, **more: Any) -> tuple[int, str]:
            async with session.request(method, path, **more) as answer:
                return answer.status, await answer.text()

        assert await ask("POST", "/perhaps", json=item) == (200, "a")
        assert await ask("POST", "/perhaps") == (200, "none")
        assert (await ask("POST", "/perhaps", json={"name": 1}))[0] == 422
        assert await ask("POST", "/several", json=[item, {**item, "name": "b"}]) == (200, "a,b")
        status, problem = await ask("POST", "/several", json=[item, {"name": "b"}])
        assert status == 422 and '"$[1]"' in problem
        assert await ask("GET", "/named?name=x&tags=y") == (200, '{"name":"x","tags":["y"]}')
        async with session.get("/openapi.json") as answer:
            paths = (await answer.json())["paths"]
    assert [paths[path]["post"]["requestBody"]["required"] for path in ("/perhaps", "/several")] \
        == [False, True]
    several_body = paths["/several"]["post"]["requestBody"]["content"]["application/json"]
    assert several_body["schema"] == {
        "type": "array", "items": {"$ref": "#/components/schemas/Item"}}
    assert "parameters" not in paths["/perhaps"]["post"]


async def test_the_document_is_an_option() -> None:
    plain = Routes()
    plain.get("/")(lambda request: {})
    for routes, option, status in ((plain, None, 404), (plain, True, 200), (make(), False, 404)):
        async with (
            serving(routes, openapi=option) as served,
            aiohttp.ClientSession(served.url) as session,session.get("/openapi.json") as answer
        ):
            assert answer.status == status


async def test_what_cannot_be_decoded_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routes = Routes()

    @routes.get("/x")
    def bare(request: Request, what) -> None:  # type: ignore[no-untyped-def]
        return None

    with pytest.raises(RouteError, match=r"parameter 'what' of .*bare: expected an annotation"):
        await HTTPServer(routes).start()
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ImportError, match=r"pip install apihour\[validation\]"):
        await HTTPServer(make()).start()
