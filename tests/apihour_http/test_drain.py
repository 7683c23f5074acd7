"""Goodbyes: nothing that was asked goes unanswered."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apihour_http import Request, Routes

from .support import Served, context, get, serving, wait_until

LANES = pytest.mark.parametrize("lane", ["direct", "app"])


def slow(lane: str, gate: asyncio.Event) -> dict[str, Any]:
    """Something that answers at once on /fast and waits for `gate` on /slow."""
    if lane == "direct":
        routes = Routes()

        @routes.get("/fast")
        def fast(request: Request) -> dict[str, int]:
            return {}

        @routes.get("/slow")
        async def wait(request: Request) -> str:
            await gate.wait()
            return "done"

        return {"routes": routes}
    app = web.Application()

    async def hosted_fast(request: web.Request) -> web.Response:
        return web.Response(text="{}", headers={"Connection": "keep-alive"})

    async def hosted_wait(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"do")
        await gate.wait()
        await response.write(b"ne")
        return response

    app.router.add_get("/fast", hosted_fast)
    app.router.add_get("/slow", hosted_wait)
    return {"app": app}


def draining(served: Served, seconds: float = 5.0) -> asyncio.Task[None]:
    loop = asyncio.get_running_loop()
    return loop.create_task(served.server.drain(loop.time() + seconds))


@LANES
async def test_the_next_answer_says_close(lane: str) -> None:
    async with serving(**slow(lane, asyncio.Event()), linger=3.0) as served:
        used, silent = await served.connect(), await served.connect()
        used.send(get("/fast"))
        assert (await used.answer()).headers.get("connection", "keep-alive") == "keep-alive"
        drain = draining(served)
        await asyncio.sleep(0.05)
        assert served.server.statistics()["draining"] == 2
        for peer in (used, silent):
            assert not peer.reader.at_eof()
            peer.send(get("/fast"))
            answer = await peer.answer()
            assert answer.status == 200 and answer.headers["connection"] == "close"
            assert await peer.rest() == b""
            peer.close()
        await asyncio.wait_for(drain, 1)
        assert served.server.statistics()["draining"] == 0


@LANES
async def test_silent_connections_are_closed_after_linger(lane: str) -> None:
    async with serving(**slow(lane, asyncio.Event()), linger=0.2) as served:
        peer = await served.connect()
        peer.send(get("/fast"))
        await peer.answer()
        loop = asyncio.get_running_loop()
        start = loop.time()
        drain = draining(served)
        assert await peer.rest() == b""
        assert 0.15 < loop.time() - start < 5
        await asyncio.wait_for(drain, 5)
        peer.close()


@LANES
async def test_linger_is_capped_by_the_deadline(lane: str) -> None:
    async with serving(**slow(lane, asyncio.Event()), linger=60.0) as served:
        peer = await served.connect()
        await asyncio.sleep(0.02)
        await asyncio.wait_for(draining(served, 0.4), 0.4)
        peer.close()


@LANES
async def test_what_is_in_flight_finishes(lane: str) -> None:
    gate = asyncio.Event()
    async with serving(**slow(lane, gate), linger=0.05) as served:
        peer = await served.connect()
        peer.send(get("/slow"))
        await wait_until(lambda: served.server.statistics()["in_flight"])
        drain = draining(served)
        await asyncio.sleep(0.2)
        assert not drain.done()
        gate.set()
        assert (await peer.answer()).body == b"done"
        assert await peer.rest() == b""
        await asyncio.wait_for(drain, 1)
        peer.close()


@LANES
async def test_pipelined_requests_are_all_answered(lane: str) -> None:
    gate = asyncio.Event()
    async with serving(**slow(lane, gate)) as served:
        peer = await served.connect()
        peer.send(get("/slow") + get("/fast") * 3)
        await wait_until(lambda: served.server.statistics()["in_flight"] == 4)
        drain = draining(served)
        await asyncio.sleep(0)
        gate.set()
        answers = [await peer.answer() for _ in range(4)]
        assert [a.status for a in answers] == [200] * 4
        assert answers[-1].headers["connection"] == "close"
        assert await peer.rest() == b""
        await asyncio.wait_for(drain, 1)
        peer.close()


@LANES
async def test_under_load_nothing_is_lost(lane: str) -> None:
    lost: list[BaseException] = []
    answered = 0
    enough = asyncio.Event()

    async def client(served: Served, stop: asyncio.Event) -> None:
        nonlocal answered
        while not stop.is_set():
            peer = await served.connect()
            while True:
                peer.send(get("/fast"))
                answer = await peer.answer()
                answered += 1
                if answered > 100:
                    enough.set()
                if answer.headers.get("connection") == "close":
                    break
                await asyncio.sleep(0.002)
            peer.close()
            if served.server.now.draining:
                return

    async with serving(**slow(lane, asyncio.Event()), linger=1.0) as served:
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(served, stop)) for _ in range(20)]
        await asyncio.wait_for(enough.wait(), 30)
        served.listener.close()
        await served.server.drain(asyncio.get_running_loop().time() + 30)
        stop.set()
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, BaseException):
                lost.append(result)
    assert not lost


async def test_websockets_get_1001_and_time_to_answer() -> None:
    app = web.Application()
    ended = asyncio.Event()

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        ended.set()
        return ws

    app.router.add_get("/ws", socket)
    for routes in (None, Routes()):
        ended.clear()
        fresh = web.Application()
        fresh.router.add_get("/ws", socket)
        async with serving(routes, fresh) as served, aiohttp.ClientSession() as session:
            async with session.ws_connect(served.url + "/ws") as ws:
                await ws.send_str("x")
                assert await ws.receive_str() == "x"
                drain = draining(served)
                message = await ws.receive()
                assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1001
                await asyncio.wait_for(ended.wait(), 2)
            await asyncio.wait_for(drain, 2)


async def test_times_come_from_the_host() -> None:
    async with serving(
        Routes(), context=context(keepalive=12.0, linger=3.0)
    ) as served:
        assert (served.server.service.keepalive, served.server.service.linger) == (12.0, 3.0)
    async with serving(Routes(), keepalive=7.0) as served:
        assert (served.server.service.keepalive, served.server.service.linger) == (7.0, 7.0)


async def test_stop_closes_what_is_left_and_cleans_up() -> None:
    seen: list[str] = []
    gate = asyncio.Event()
    made = slow("app", gate)
    app: web.Application = made["app"]

    async def mark(name: str) -> None:
        seen.append(name)

    app.on_startup.append(lambda app: mark("startup"))
    app.on_shutdown.append(lambda app: mark("shutdown"))
    app.on_cleanup.append(lambda app: mark("cleanup"))
    async with serving(**made) as served:
        peer = await served.connect()
        peer.send(get("/slow"))
        assert (await asyncio.wait_for(peer.reader.readline(), 2)).startswith(b"HTTP/1.1 200")
        await asyncio.wait_for(served.server.stop(), 2)
        try:
            await peer.rest()
        except ConnectionError:
            pass
        peer.close()
    assert seen == ["startup", "shutdown", "cleanup"]
    never = web.Application()
    from apihour_http import HTTPServer

    await HTTPServer(app=never).stop()
