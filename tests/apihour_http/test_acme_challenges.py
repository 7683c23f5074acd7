"""http-01 beside routes and applications: answered where the host has something to say."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from apihour_http import HTTPServer, Routes

TOKEN = "a" * 22


async def ask(server: HTTPServer, path: str) -> tuple[int, bytes]:
    listening = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    listening.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def find(token: str) -> str | None:
    return f"{token}.thumb" if token == TOKEN else None


def both() -> tuple[Routes, web.Application]:
    routes = Routes()

    @routes.get("/.well-known/{name}")
    def known(request: Any) -> dict[str, str]:
        return {"name": request.match_info["name"]}

    async def index(request: web.Request) -> web.Response:
        return web.Response(text="application")

    app = web.Application()
    app.router.add_get("/{rest:.*}", index)
    return routes, app


@pytest.mark.parametrize("which", ["routes", "app", "both"])
async def test_challenges_are_answered_and_nothing_else_is_changed(which: str) -> None:
    routes, app = both()
    server = HTTPServer(routes if which != "app" else None, app if which != "routes" else None)
    await server.start(SimpleNamespace(challenges=find))
    path = "/.well-known/acme-challenge/"
    assert await ask(server, path + TOKEN) == (200, TOKEN.encode() + b".thumb")
    assert (await ask(server, path + "other"))[0] == 404
    assert (await ask(server, path + "..%2f..%2fx"))[0] in (400, 404)
    expected = b"application" if which == "app" else b'{"name":"other"}'
    assert await ask(server, "/.well-known/other") == (200, expected)
    if which != "routes":
        assert await ask(server, "/index") == (200, b"application")
    await server.stop()


async def test_without_them_the_path_is_nobodys() -> None:
    server = HTTPServer(both()[0])
    await server.start(SimpleNamespace())
    assert (await ask(server, "/.well-known/acme-challenge/" + TOKEN))[0] == 404
    await server.stop()
