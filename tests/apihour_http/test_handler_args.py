"""What an application's owner configured for its connections is honoured, or refused by name."""

from __future__ import annotations

import gzip
import socket
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apihour_http import HTTPServer

from .support import context, get, serving


async def tell(request: web.BaseRequest) -> web.Response:
    transport = request.transport
    assert transport is not None
    sock = transport.get_extra_info("socket")
    keepalive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    limit = request.content.get_read_buffer_limits()[0] if request.can_read_body else 0
    return web.json_response([len(await request.read()), limit, keepalive])


def make_app(**arguments: Any) -> web.Application:
    app = web.Application(handler_args=arguments)
    app.router.add_route("*", "/", tell)
    return app


async def ask(app: Any) -> Any:
    headers = {"Content-Encoding": "gzip"}
    async with (
        serving(None, app) as served, aiohttp.ClientSession(served.url) as session,
        session.post("/", data=gzip.compress(b"x" * 5000), headers=headers) as answer,
    ):
        return await answer.json()


async def test_they_are_honoured() -> None:
    size, usual, keepalive = await ask(make_app())
    assert (size, keepalive) == (5000, 1)
    size, limit, keepalive = await ask(make_app(
        auto_decompress=False, read_bufsize=1000, tcp_keepalive=False))
    assert size == len(gzip.compress(b"x" * 5000)) and keepalive == 0
    assert limit * 64 == usual or limit < usual
    assert (await ask(web.Server(tell, auto_decompress=False)))[0] == size


@pytest.mark.parametrize("name, instead", [
    ("keepalive_timeout", "keepalive"), ("max_line_size", "max_line"),
    ("max_field_size", "max_field"), ("max_headers", "max_fields"),
])
async def test_what_is_the_servers_to_say_is_refused_with_its_name(
    name: str, instead: str
) -> None:
    for app, where in ((make_app(**{name: 7}), "handler_args"),
                       (web.Server(tell, **{name: 7}), "web.Server")):
        with pytest.raises(ValueError, match=f"{where}: {name}=7: .*HTTPServer.*{instead}="):
            await HTTPServer(app=app).start(context())


async def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="lingering_time=3: expected one of auto_decompress"):
        await HTTPServer(app=make_app(lingering_time=3)).start(context())
    async with serving(None, make_app(access_log=None)) as served:
        assert b" 200 " in await served.ask(get("/", "Connection: close"))
