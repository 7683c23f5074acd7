"""Paths, converters, precedence and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from apihour_http import RouteError, Routes
from apihour_http.routing.routes import Router


def router(*paths: str) -> Router:
    routes = Routes()
    for path in paths:
        routes.get(path)(lambda request: None)
    return Router(list(routes))


def resolve(table: Router, target: str) -> tuple[str, dict[str, Any]] | None:
    methods, match_info = table.resolve(target.encode())
    return (methods[b"GET"].path, match_info) if methods else None


def test_literals_win_and_strict_converters_come_first() -> None:
    table = router("/a/{name}", "/a/{number:int}", "/a/fixed", "/a/{ratio:float}/x",
                   "/f/{rest:path}", "/u/{key:uuid}", "/")
    key = uuid.uuid4()
    for target, expected in {
        "/a/fixed": ("/a/fixed", {}),
        "/a/12": ("/a/{number:int}", {"number": 12}),
        "/a/-1": ("/a/{number:int}", {"number": -1}),
        "/a/1e5": ("/a/{name}", {"name": "1e5"}),
        "/a/1.5/x": ("/a/{ratio:float}/x", {"ratio": 1.5}),
        "/a/b%2Fc": ("/a/{name}", {"name": "b/c"}),
        "/a/%C3%A9": ("/a/{name}", {"name": "é"}),
        "/f/": ("/f/{rest:path}", {"rest": ""}),
        "/f/x/y": ("/f/{rest:path}", {"rest": "x/y"}),
        f"/u/{key}": ("/u/{key:uuid}", {"key": key}),
        "/": ("/", {}),
    }.items():
        assert resolve(table, target) == expected, target
    for target in ("/a", "/a/", "/u/x", "/b", "/a/fixed/", "//"):
        assert resolve(table, target) is None, target


def test_what_is_remembered_is_bounded() -> None:
    table = router("/{name}")
    for number in range(5000):
        table.resolve(b"/%d" % number)
    assert 0 < len(table.known) <= 1024
    table.resolve(b"/" + b"y" * 1000)
    assert b"/" + b"y" * 1000 not in table.known


@pytest.mark.parametrize(("path", "message"), [
    ("x", "leading slash"), ("/{a", "expected text or {name}"),
    ("/{a:b}", "converter 'b': expected one of int"), ("/{a}/{a}", "appears twice"),
    ("/{a:path}/b", "as the last segment"), ("/a?b", "expected text or {name}"),
])
def test_wrong_paths_are_refused(path: str, message: str) -> None:
    with pytest.raises(RouteError) as caught:
        Routes().get(path)
    assert message in str(caught.value) and repr(path) in str(caught.value)


def test_wrong_routes_are_refused() -> None:
    routes = Routes()
    routes.get("/x")(lambda request: None)
    with pytest.raises(RouteError, match="declared twice"):
        routes.get("/x")(lambda request: None)
    with pytest.raises(RouteError, match="method 'CONNECT' cannot be routed"):
        routes.route("CONNECT", "/")
    with pytest.raises(RouteError, match="expected the same names"):
        router("/{a}", "/{b}")

    async def endpoint(request: Any) -> None:
        return None

    with pytest.raises(RouteError, match="blocking=True is for plain def"):
        routes.get("/y", blocking=True)(endpoint)
    with pytest.raises(RouteError, match="prefix 'v1'"):
        Routes("v1")


def test_prefix_and_include() -> None:
    inner, outer = Routes("/users"), Routes("/v1")
    inner.get("/{id:int}")(lambda request: None)
    outer.include(inner)
    assert resolve(Router(list(outer)), "/v1/users/3") == ("/v1/users/{id:int}", {"id": 3})
