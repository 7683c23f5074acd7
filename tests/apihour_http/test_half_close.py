"""Clients that say with their request that nothing more will come (``nc -N``, HTTP/1.0 ways)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from apihour_http import Request, Routes

from .support import get, serving, wait_until

LANES = pytest.mark.parametrize("path", ["/direct", "/hosted"])
PATIENCE = 30.0


def make(gate: asyncio.Event, fates: list[str]) -> dict[str, Any]:
    routes, app = Routes(), web.Application()

    async def wait() -> None:
        try:
            await gate.wait()
            fates.append("done")
        except asyncio.CancelledError:
            fates.append("cancelled")
            raise

    @routes.route("GET", "/direct")
    async def direct(request: Request) -> str:
        await wait()
        return "answer"

    async def hosted(request: web.Request) -> web.Response:
        await request.read()
        await wait()
        return web.Response(text="answer")

    app.router.add_route("*", "/hosted", hosted)
    return {"routes": routes, "app": app}


@LANES
@pytest.mark.parametrize("count", [1, 3])
async def test_the_answers_come(path: str, count: int) -> None:
    gate, fates = asyncio.Event(), []  # type: ignore[var-annotated]
    async with serving(**make(gate, fates)) as served:
        peer = await served.connect()
        peer.send(get(path) * count)
        peer.writer.write_eof()
        if count == 1:  # of more, the end is met when the last is answered
            await wait_until(
                lambda: any(lane.is_at_end() for lane in served.server.connections), PATIENCE)
        gate.set()
        for _ in range(count):
            assert (await peer.answer(PATIENCE)).body == b"answer"
        assert await peer.rest(PATIENCE) == b""
        await wait_until(lambda: not served.server.connections, PATIENCE)
        peer.close()


@LANES
async def test_a_message_cut_short_is_not_answered_those_before_it_are(path: str) -> None:
    gate, fates = asyncio.Event(), []  # type: ignore[var-annotated]
    async with serving(**make(gate, fates)) as served:
        for rest in (b"POST /hosted HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc",
                     b"GET /hosted HTTP/1.1\r\nHo"):
            gate.clear()
            peer = await served.connect()
            peer.send(get(path) + rest)
            peer.writer.write_eof()
            await wait_until(
                lambda: any(lane.is_at_end() for lane in served.server.connections), PATIENCE)
            gate.set()
            assert (await peer.answer(PATIENCE)).body == b"answer"
            assert await peer.rest(PATIENCE) == b""
            peer.close()
        await wait_until(lambda: not served.server.connections, PATIENCE)


async def test_a_handler_that_waits_for_a_body_is_told_that_it_will_not_come() -> None:
    gate, fates = asyncio.Event(), []  # type: ignore[var-annotated]
    async with serving(**make(gate, fates)) as served:
        peer = await served.connect()
        peer.send(b"POST /hosted HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc")
        peer.writer.write_eof()
        assert await peer.rest(PATIENCE) == b""
        await wait_until(lambda: not served.server.connections, PATIENCE)
        peer.close()
    assert fates == []


async def test_who_asks_for_cancellation_gets_it() -> None:
    gate, fates = asyncio.Event(), []  # type: ignore[var-annotated]
    what = make(gate, fates)
    what["app"] = web.Application(handler_args={"handler_cancellation": True})

    async def hosted(request: web.Request) -> web.Response:
        try:
            await gate.wait()
        finally:
            fates.append("cancelled")
        return web.Response()

    what["app"].router.add_get("/hosted", hosted)
    async with serving(**what) as served:
        peer = await served.connect()
        peer.send(get("/hosted"))
        await wait_until(lambda: any(lane.current for lane in served.server.connections), PATIENCE)
        await asyncio.sleep(0)
        peer.writer.write_eof()
        await wait_until(lambda: fates, PATIENCE)
        peer.close()
    assert fates == ["cancelled"]
