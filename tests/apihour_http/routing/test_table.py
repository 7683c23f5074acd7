"""The table of a started server: a target is looked up by its path, whatever its query."""

from __future__ import annotations

from typing import Any

import pytest

from apihour_http import Routes
from apihour_http.errors import BadRequest
from apihour_http.head import HeadChecker
from apihour_http.options import Options
from apihour_http.routing.table import Table, prepare


def table(*paths: str, max_line: int = 100) -> Table:
    routes = Routes()
    for path in paths:
        routes.get(path)(lambda request: None)
    endpoints = prepare(routes, Options(), lambda call: call)
    return Table(endpoints, HeadChecker(max_line, 100, 10), routes, False)


def found(where: Table, target: bytes) -> tuple[str, dict[str, Any]] | None:
    methods, values = where.resolve(b"GET", target)
    return (methods[b"GET"].path, values) if methods else None


@pytest.mark.parametrize(("target", "expected"), [
    (b"/", ("/", {})), (b"/?x", ("/", {})), (b"/?", ("/", {})), (b"/??a=?", ("/", {})),
    (b"/a/%C3%A9?q=/x", ("/a/{name}", {"name": "é"})),
    (b"/a/b?c#d", ("/a/{name}", {"name": "b"})), (b"/?c#d", ("/", {})), (b"/#?", ("/", {})),
    (b"http://host/a/b?c=/d", ("/a/{name}", {"name": "b"})), (b"http://host?c", ("/", {})),
    (b"/b?c", None),
])
def test_a_query_is_not_looked_at(target: bytes, expected: Any) -> None:
    where = table("/", "/a/{name}")
    for _ in range(2):  # the second time the path is known
        assert found(where, target) == expected


@pytest.mark.parametrize("target", [
    b"/?\xe9", b"/a/b?\xe9", b"/?\t", b"/a/b? ", b"/?\x7f", b"/?" + b"x" * 99, b"a?b",
])
def test_a_target_that_is_none_is_refused_however_well_its_path_is_known(target: bytes) -> None:
    where = table("/", "/a/{name}")
    for path in (b"/", b"/a/b"):
        assert found(where, path)
    with pytest.raises(BadRequest):
        where.resolve(b"GET", target)


def test_queries_fill_no_memory() -> None:
    where = table("/a/{name}")
    for number in range(2000):
        assert found(where, b"/a/b?%d" % number)
    assert len(where.known) == 1


def test_without_endpoints_a_target_is_judged_all_the_same() -> None:
    checker = HeadChecker(100, 100, 10)
    resolve = Table([], checker, None, True).resolver()
    for target in (b"/", b"/a?b", b"http://host/a", b"/a#b"):
        assert resolve(b"GET", target) == ({}, {})
    assert resolve(b"OPTIONS", b"*") == ({}, {})
    for method, target in ((b"GET", b"*"), (b"GET", b"a"), (b"CONNECT", b"h:1"), (b"GET", b"/\xff"),
                           (b"GET", b"/" + b"x" * 100)):
        with pytest.raises(BadRequest):
            resolve(method, target)
    assert table("/").resolver()(b"GET", b"/?q")[0]
