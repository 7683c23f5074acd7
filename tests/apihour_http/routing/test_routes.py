"""Paths, converters, precedence and what is refused."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apihour_http import RouteError, Routes
from apihour_http.routing.paths import CONVERTERS
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


PARTS = st.sampled_from(["a", "b", "{x}", "{x:int}", "{x:float}", "{x:path}"])
TARGETS = st.lists(st.sampled_from(["a", "b", "1", "-2", "1.5", "", "c"]), max_size=4)


def by_trying(paths: list[str], target: list[str]) -> tuple[str, dict[str, Any]] | None:
    """What the rules say, by trying all: literals, then strict converters, then the rest."""
    def fits(part: str, segment: str) -> bool:
        try:
            return bool(segment) and CONVERTERS[part.partition(":")[2][:-1] or "str"](
                segment) is not None
        except ValueError:
            return False

    def key(parts: list[str]) -> list[int]:
        kinds = ["", "{x0:int}", "{x0:float}", "{x0}", "{x0:path}"]
        return [kinds.index(re.sub("x[0-9]", "x0", part)) if part[0] == "{" else 0
                for part in parts]

    for path in sorted(paths, key=lambda path: key(path[1:].split("/"))):
        parts, values = path[1:].split("/"), {}
        for place, part in enumerate(parts):
            left = target[place:]
            if part.endswith(":path}") and left:
                values[part[1:3]] = "/".join(left)
                return path, values
            if not left or (part != left[0] if part[0] != "{" else not fits(part, left[0])):
                break
            if part[0] == "{":
                values[part[1:3]] = CONVERTERS[part[4:-1] or "str"](left[0])
        else:
            if len(parts) == len(target):
                return path, values
    return None


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=5), TARGETS)
def test_the_tree_finds_what_the_rules_say(several: list[list[str]], target: list[str]) -> None:
    paths = []
    for parts in several:
        if any(part.endswith("path}") for part in parts[:-1]):
            continue
        path = "".join("/" + part.replace("x", f"x{place}") for place, part in enumerate(parts))
        if path not in paths:
            paths.append(path)
    if paths and target:
        expected = by_trying(paths, target)
        assert resolve(router(*paths), "/" + "/".join(target)) == expected
