"""How a judged head becomes aiohttp's message: as aiohttp's own parser makes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from .support import Peer, get, serving

PARSERS = pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
HEADS = {
    "plain": get("/"),
    "names in odd spellings": get("/", "x-oDD: 1", "X-Odd: 2", "x-ODD: 3"),
    "white space around values": get("/", "X-A:  1 \t", "X-B:\t2", "X-C:"),
    "UTF-8": b"GET / HTTP/1.1\r\nHost: h\r\nX-Name: caf\xc3\xa9\r\n\r\n",
    "no UTF-8, beside UTF-8":
        b"GET / HTTP/1.1\r\nHost: h\r\nX-A: \xff\xfe \r\nX-B: caf\xc3\xa9\r\n\r\n",
    "query": get("/a/b?c=d&e=%20+f&c"), "empty query": get("/?"), "two marks": get("/a??b=?"),
    "fragment": get("/a?b=c#d"),
    "slashes": get("//host/a//b?c"), "escapes": get("/%C3%A9/%2f?%C3%A9=%2F"),
    "absolute": get("http://host:8080/a?b=c"),
}


def shown(request: web.BaseRequest) -> dict[str, Any]:
    return {
        "method": request.method, "version": request.version, "target": request.raw_path,
        "url": repr(request.rel_url), "path": request.path, "query": list(request.query.items()),
        "headers": list(request.headers.items()),
        "raw": [(name, value.rstrip()) for name, value in request.raw_headers],
        "odd": request.headers.getall("X-ODD", []), "keep": request.keep_alive,
    }


@PARSERS
@pytest.mark.parametrize("name", HEADS)
async def test_it_is_the_message_of_aiohttps_own_parser(name: str, parser: str) -> None:
    seen: list[dict[str, Any]] = []

    async def look(request: web.BaseRequest) -> web.Response:
        seen.append(shown(request))
        return web.Response()

    async with serving(None, web.Server(look), parser=parser) as served:
        peer = await served.connect()
        for _ in range(2):  # what is remembered of the first is the same
            peer.send(HEADS[name])
            assert (await peer.answer(30)).status == 200
        peer.close()
    listener = await asyncio.get_running_loop().create_server(web.Server(look), "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        peer = Peer(reader, writer)
        peer.send(HEADS[name])
        assert (await peer.answer(30)).status == 200
        peer.close()
    finally:
        listener.close()
    ours, again, expected = seen
    assert ours == again
    assert ours == expected
