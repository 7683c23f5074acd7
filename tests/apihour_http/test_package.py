"""What importing costs, what is exported, and what the host's registry is told."""

from __future__ import annotations

import subprocess
import sys

import pytest
from aiohttp import web

import apihour_http
from apihour_http import HTTPServer, Routes
from apihour_http.adapter import plugin


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_leaves_the_host_and_aiohttp_out() -> None:
    assert run(
        "import sys, apihour_http, apihour_http.adapter; "
        "print([m for m in ('apihour', 'aiohttp', 'multidict', 'ujson', 'msgspec') "
        "if m in sys.modules])") == "[]"
    assert run(
        "import sys, apihour_http; apihour_http.JSON({}); print('apihour' in sys.modules)"
    ) == "False"


def test_routes_serve_with_aiohttp_and_ujson_unimportable() -> None:
    pytest.importorskip("httptools")
    assert run("""
import sys
for name in ("aiohttp", "ujson", "multidict", "msgspec", "yarl"):
    sys.modules[name] = None
import asyncio
from apihour_http import HTTPServer, Routes
from apihour_http.adapter import plugin
routes = Routes()
routes.get("/")(lambda request: {"a": 1})
assert plugin.accepts(routes, "stream") and not plugin.accepts(object(), "stream")
async def main():
    server = HTTPServer(routes)
    listener = await server.serve("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
    print((await reader.read()).splitlines()[-1].decode())
    writer.close(); listener.close(); await server.stop()
asyncio.run(main())
""") == '{"a":1}'


def test_exports() -> None:
    assert sorted(apihour_http.__all__) == [
        "CONTAINER", "Depends", "Event", "HTML", "HTTPClient", "HTTPError", "HTTPServer", "JSON",
        "Request", "Response", "RouteError", "Routes", "RowSet", "SSE", "Stream", "WebSocket",
        "WebSocketDisconnect"]
    for name in apihour_http.__all__:
        assert getattr(apihour_http, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        apihour_http.nothing  # noqa: B018


async def test_the_plugin_accepts_and_adapts() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response()

    for obj in (web.Application(), web.Server(handler), Routes(), HTTPServer(Routes())):
        assert plugin.accepts(obj, "stream")
        assert not plugin.accepts(obj, "datagram")
        server = plugin.adapt(obj, "stream")
        assert isinstance(server, HTTPServer) and server.protocol == "http"
    for other in (object(), Routes, HTTPServer, lambda: None, None):
        assert not plugin.accepts(other, "stream")
    assert plugin.name == "http" and "aiohttp.web.Application" in plugin.describes


def test_a_parser_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from apihour_http.parser import choose

    monkeypatch.setitem(sys.modules, "httptools", None)
    assert choose("auto").name == "aiohttp"
    with pytest.raises(ImportError, match=r"apihour\[standard\]"):
        choose("httptools")
