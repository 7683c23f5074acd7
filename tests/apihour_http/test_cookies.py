"""Cookies: what is set comes back, and what no browser takes is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from apihour_http import Request, Response, Routes, Stream
from apihour_http.cookies import read_cookies

from .support import serving


@pytest.mark.parametrize(("options", "line"), [
    ({}, "sid=a1; Path=/; SameSite=Lax"),
    ({"max_age": 60, "httponly": True, "secure": True},
     "sid=a1; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ({"domain": "example.org", "path": "/app", "samesite": None},
     "sid=a1; Domain=example.org; Path=/app"),
    ({"samesite": "None", "secure": True}, "sid=a1; Path=/; Secure; SameSite=None"),
])
def test_the_field(options: dict[str, Any], line: str) -> None:
    response = Response()
    response.set_cookie("sid", "a1", **options)
    assert response.headers == [("Set-Cookie", line)]


@pytest.mark.parametrize(("name", "value", "options", "message"), [
    ("a b", "x", {}, "cookie name 'a b'"), ("", "x", {}, "cookie name ''"),
    ("a", "x;y", {}, "expected it encoded"), ("a", "é", {}, "expected it encoded"),
    ("a", 'x"', {}, "expected it encoded"), ("a", "x\r\ny", {}, "expected it encoded"),
    ("a", 5, {}, "expected it encoded"),
    ("a", "x", {"path": "/;Domain=evil"}, "expected a path"), ("a", "x", {"path": "p"}, "a path"),
    ("a", "x", {"domain": "a; Secure"}, "a name of a host"),
    ("a", "x", {"max_age": 1.5}, "whole seconds"), ("a", "x", {"max_age": True}, "whole seconds"),
    ("a", "x", {"samesite": "lax"}, "expected one of Lax, Strict, None"),
    ("a", "x", {"samesite": "None"}, "expected secure=True"),
    ("__Secure-a", "x", {}, "expected secure=True"),
    ("__Host-a", "x", {"secure": True, "domain": "x.org"}, "no domain"),
    ("__Host-a", "x", {"secure": True, "path": "/p"}, "path='/'"),
])
def test_what_no_browser_takes(
    name: str, value: Any, options: dict[str, Any], message: str
) -> None:
    response = Response()
    with pytest.raises(ValueError) as raised:
        response.set_cookie(name, value, **options)
    assert message in str(raised.value) and response.headers == []


async def test_a_client_keeps_and_forgets_them() -> None:
    routes = Routes()

    async def body() -> AsyncIterator[str]:
        yield "streamed"

    @routes.get("/set")
    def set_them(request: Request) -> Response:
        response = Response(204)
        response.set_cookie("one", "1")
        response.set_cookie("two", "2", max_age=3600)
        return response

    @routes.get("/stream")
    def stream(request: Request) -> Stream:
        answer = Stream(body())
        answer.set_cookie("three", "3")
        return answer

    @routes.get("/forget")
    def forget(request: Request) -> Response:
        response = Response(204)
        response.del_cookie("one")
        return response

    @routes.get("/told")
    def told(request: Request) -> dict[str, str]:
        return request.cookies

    jar = aiohttp.CookieJar(unsafe=True)
    async with serving(routes) as served, \
            aiohttp.ClientSession(URL(served.url), cookie_jar=jar) as session:
        for path in ("/set", "/stream", "/forget"):
            async with session.get(path) as answer:
                await answer.read()
        async with session.get("/told") as answer:
            assert await answer.json() == {"two": "2", "three": "3"}
    response = Response()
    response.del_cookie("__Host-sid")
    assert response.headers == [("Set-Cookie", "__Host-sid=; Max-Age=0; Path=/; Secure")]


@pytest.mark.parametrize(("line", "cookies"), [
    ("a=b; c=d", {"a": "b", "c": "d"}), ("a=b;c=d", {"a": "b", "c": "d"}), ("a=", {"a": ""}),
    ("a", {}), ("=b", {}), ("", {}), (";;; =;a=b", {"a": "b"}), ("a=1; a=2", {"a": "2"}),
    ("a = b ", {"a": "b"}), ("a=b=c", {"a": "b=c"}), ("a b=c", {}), ("é=x", {}),
    ("$Version=1; a=b; $Path=/", {"a": "b"}), ("path=p; secure", {"path": "p"}),
    ('a="b"', {"a": "b"}), (r'a="\073\"\\x"', {"a": ';"\\x'}), (r'a="\0"', {"a": "0"}),
    ('a="b', {"a": '"b'}), ('a="', {"a": '"'}), ('a=""', {"a": ""}),
    ('a={"x":1,"y":[2]}', {"a": '{"x":1,"y":[2]}'}), ("a=b,c=d", {"a": "b,c=d"}),
    ("csrf/x:y@z=1", {"csrf/x:y@z": "1"}), ("__proto__=x", {"__proto__": "x"}),
])
def test_what_comes(line: str, cookies: dict[str, str]) -> None:
    assert read_cookies([line]) == cookies


def test_several_fields_are_one_list() -> None:
    assert read_cookies(["a=1; b=2", "b=3"]) == {"a": "1", "b": "3"}


def test_quoted_backslashes_cost_no_more_than_others() -> None:
    """All that a head may hold: quadratic, it would hold up a worker for seconds."""
    line = 'a="' + "\\\\" * 32000 + '"'
    start = time.process_time()
    assert read_cookies([line]) == {"a": "\\" * 32000}
    assert time.process_time() - start < 0.5
