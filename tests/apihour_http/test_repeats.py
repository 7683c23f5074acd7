"""A read that a connection has seen before: known again only where the parser would agree."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apihour_http import HTTPServer, Request, Routes

from .support import get, serving
from .test_corpus import Recorder

GOOD = b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n"
READS = st.sampled_from([
    GOOD, GOOD, GOOD, GOOD[:2], GOOD[:-2], b"\r\n", b"\r", b"GE", b"X: 1\r\n\r\n", GOOD * 2,
    b"\r\n" + GOOD, GOOD + b"\r\n", GOOD + b"GE", GOOD + b"\r\n\r\n", GOOD + b"\x00",
    b"GET /b?c=1 HTTP/1.1\r\nHost: t\r\n\r\n", b"HEAD /a HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: t\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 31\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab",
    b"POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n",
])


async def answers(reads: list[bytes], remember: bool, hosted: bool, turns: bool) -> list[Any]:
    """What is seen by endpoints, and sent, when `reads` arrive one after another."""
    seen: list[Any] = []
    routes = Routes()

    @routes.get("/a")
    async def later(request: Request) -> dict[str, int]:
        await asyncio.sleep(0)
        seen.append((request.method, request.path_qs, request.body))
        return {}

    @routes.post("/a")
    @routes.get("/{rest:path}")
    def at_once(request: Request) -> dict[str, Any]:
        seen.append((request.method, request.path_qs, request.body))
        return {"rest": request.match_info.pop("rest", None)}

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        seen.append((request.method, request.path_qs, body))
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    server = HTTPServer(None, app) if hosted else HTTPServer(routes)
    await server.start()
    if not remember:
        server.service = replace(server.service, repeatable=0)
    lane, wire = server.stream(), Recorder()
    lane.connection_made(wire)  # type: ignore[arg-type]
    for data in reads:
        if not wire.is_closing():
            lane.data_received(data)
        if turns:
            for _ in range(5):
                await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    lane.connection_lost(None)
    await server.stop()
    return [seen, re.sub(rb"Date: [^\r]*", b"", bytes(wire.sent))]


@pytest.mark.parametrize("hosted", [False, True], ids=["routes", "app"])
@settings(max_examples=200, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(READS, st.integers(1, 3)), max_size=5), st.booleans())
@example([(GOOD[:-2], 1), (b"X: 1\r\n\r\n", 2)], True)
@example([(GOOD + b"GE", 2)], True)
@example([(GOOD * 2, 2)], False)
@example([(GOOD, 1), (b"\r\n", 2)], True)
def test_memory_changes_no_answer(
    hosted: bool, series: list[tuple[bytes, int]], turns: bool
) -> None:
    reads = [data for data, times in series for _ in range(times)]

    async def compare() -> None:
        plain = await answers(reads, False, hosted, turns)
        assert await answers(reads, True, hosted, turns) == plain

    asyncio.run(compare())


async def test_a_repeated_read_is_not_parsed_again() -> None:
    routes = Routes()
    paths = []

    @routes.get("/{name}")
    def name(request: Request) -> dict[str, str]:
        paths.append(request.match_info)
        return {"name": request.match_info.pop("name")}  # its own copy, each time

    async with serving(routes, parser="httptools") as served:
        peer = await served.connect()
        peer.send(get("/x"))
        assert (await peer.answer()).body == b'{"name":"x"}'
        [lane] = served.server.connections
        fed: list[bytes] = []
        feed = lane.intake.feed
        lane.intake.feed = lambda data: (fed.append(data), feed(data))  # type: ignore[attr-defined]
        for target in ("/x", "/x", "/y", "/y", "/x"):
            peer.send(get(target))
            assert (await peer.answer()).body == b'{"name":"%s"}' % target[1:].encode()
        assert fed == [get("/y"), get("/x")]
        peer.send(get("/x" * 1200))
        assert (await peer.answer()).status == 404
        assert not lane.repeated, "a long read is not kept"
        peer.close()
