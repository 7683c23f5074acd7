"""A connection of HTTP/2 that is gone, idle or amid its answers, is not left to the collector."""

from __future__ import annotations

import asyncio
import gc

import pytest
from aiohttp import web

from apihour_http import SSE, Routes
from apihour_http.http2.multiplexer import HTTP2Connection
from apihour_http.http2.stream_lane import StreamLane
from tests.apihour_http.support import serving, wait_until

from .support import PATIENCE, connected


def make():
    routes, app = Routes(), web.Application()

    @routes.get("/direct")
    async def direct(request):
        return {}

    @routes.get("/inline")
    def inline(request):
        return "text"

    @routes.post("/up", stream_body=True)
    async def upload(request):
        return b"".join([piece async for piece in request.stream()])

    @routes.get("/slow")
    async def slow(request):
        await asyncio.sleep(3600)

    @routes.get("/feed")
    def feed(request):
        async def events():
            yield {"n": 1}
            await asyncio.sleep(3600)
        return SSE(events())

    async def hosted(request):
        return web.Response(text=str(len(await request.read())))

    app.router.add_route("*", "/hosted", hosted)
    return routes, app


def left(kind):
    return [one for one in gc.get_objects() if type(one) is kind]


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/direct"), ("GET", "/inline"), ("POST", "/up"), ("GET", "/slow"), ("GET", "/feed"),
    ("GET", "/hosted"), ("POST", "/hosted")])
async def test_nothing_is_left_for_the_collector(method, path):
    body = b"body" if method == "POST" else None
    async with serving(*make(), cancel_on_disconnect=True) as s:
        gc.collect()
        assert left(HTTP2Connection) == []
        gc.disable()
        try:
            for _ in range(3):
                async with connected(s) as client:
                    number = client.ask(method, path, body=body, ends=body is None)
                    if body is not None:  # the rest comes when it is being answered
                        await wait_until(lambda: s.server.statistics()["in_flight"] == 1, PATIENCE)
                        client.h2.send_data(number, body, end_stream=True)
                        client.flush()
                    if path == "/slow":
                        await wait_until(lambda: s.server.statistics()["in_flight"] == 1, PATIENCE)
                    elif path == "/feed":
                        await client.until(lambda number=number, client=client:
                                           client.replies[number].body)
                    else:
                        await client.reply(number)
                        await wait_until(lambda: left(StreamLane) == [], PATIENCE)
            await wait_until(lambda: left(StreamLane) == [], PATIENCE)
            await wait_until(lambda: left(HTTP2Connection) == [], PATIENCE)
        finally:
            gc.enable()
