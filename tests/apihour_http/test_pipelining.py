"""Pipelined requests: their answers leave together, in order, and wait for no slow endpoint."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from apihour_http import Request, Routes
from tests.apihour_http.support import Served, context, get, serving, wait_until

routes = Routes()


@routes.get("/n/{number:int}")
async def number(request: Request) -> dict[str, Any]:
    return {"number": request.match_info["number"]}


@routes.get("/turns/{count:int}")
async def turns(request: Request) -> dict[str, Any]:
    for _ in range(request.match_info["count"]):
        await asyncio.sleep(0)
    return {"turns": request.match_info["count"]}


@routes.get("/big")
async def big(request: Request) -> str:
    return "x" * 300_000


@routes.get("/wait")
async def wait(request: Request) -> dict[str, Any]:
    await request.container.wait()
    return {"waited": True}


@routes.get("/hang-up")
async def hang_up(request: Request) -> None:
    request.transport.close()


@routes.get("/gone")
def gone(request: Request) -> None:
    request.transport.close()


@routes.get("/now")
def now(request: Request) -> dict[str, Any]:
    return {"now": True}


def numbers(first: int, last: int) -> bytes:
    return b"".join(get(f"/n/{number}") for number in range(first, last))


async def writes(served: Served) -> list[bytes]:
    """What the only connection writes from now on, a piece a write."""
    (lane,) = served.server.connections
    written: list[bytes] = []

    class Watched:
        """The transport, with an eye on its writes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(transport, name)

        def write(self, data: bytes) -> None:
            written.append(data)
            transport.write(data)

    transport: Any = lane.transport
    watched = Watched()
    lane.transport = watched  # type: ignore[assignment]
    lane.write = watched.write
    return written


async def test_answers_come_in_order_and_share_writes() -> None:
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(numbers(0, 1))
        await peer.answer()
        written = await writes(served)
        peer.send(numbers(0, 40))
        assert [(await peer.answer()).body for _ in range(40)] == [
            b'{"number":%d}' % number for number in range(40)]
        assert len(written) < 10
        (lane,) = served.server.connections
        assert lane.outbox is None
        peer.close()


async def test_what_is_answered_at_once_shares_writes() -> None:
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/now"))
        await peer.answer()
        written = await writes(served)
        peer.send(get("/now") * 16)
        for _ in range(16):
            assert (await peer.answer()).body == b'{"now":true}'
        assert len(written) <= 4  # a read may have been cut in two, the first go alone
        (lane,) = served.server.connections
        assert lane.outbox is None
        said = await served.ask(get("/now") * 5 + get("/gone"))
        assert said.count(b'{"now":true}') == 5
        peer.close()


async def test_a_waiting_endpoint_does_not_hold_what_was_answered() -> None:
    gate = asyncio.Event()
    async with serving(routes, context=context(container=gate)) as served:
        peer = await served.connect()
        peer.send(numbers(0, 3) + get("/wait") + numbers(3, 6))
        for number in range(3):
            assert (await peer.answer()).body == b'{"number":%d}' % number
        gate.set()
        assert (await peer.answer()).body == b'{"waited":true}'
        for number in range(3, 6):
            assert (await peer.answer()).body == b'{"number":%d}' % number
        peer.close()


async def test_every_kind_of_endpoint_between_held_answers() -> None:
    async def hosted(request: web.Request) -> web.Response:
        return web.Response(text=request.path)

    app = web.Application()
    app.router.add_get("/hosted", hosted)
    paths = ["/n/1", "/n/2", "/hosted", "/n/3", "/now", "/n/4", "/turns/5", "/hosted",
             "/hosted", "/turns/1", "/now", "/big", "/n/5", "/n/6"]
    async with serving(routes, app) as served:
        peer = await served.connect()
        peer.send(b"".join(get(path) for path in paths))
        answers = [(await peer.answer()).body for _ in paths]
        assert [body[:12] for body in answers] == [
            b'{"number":1}', b'{"number":2}', b"/hosted", b'{"number":3}', b'{"now":true}',
            b'{"number":4}', b'{"turns":5}', b"/hosted", b"/hosted", b'{"turns":1}',
            b'{"now":true}', b"x" * 12, b'{"number":5}', b'{"number":6}',
        ]
        assert len(answers[11]) == 300_000
        peer.close()


async def test_the_last_answer_and_a_refusal_come_after_those_held() -> None:
    async with serving(routes) as served:
        said = await served.ask(numbers(0, 5) + get("/n/5", "Connection: close") + get("/n/6"))
        assert [said.count(b'{"number":%d}' % number) for number in range(7)] == [1] * 6 + [0]
        said = await served.ask(numbers(0, 5) + b"GET / HTTP/3.1\r\n\r\n")
        assert said.index(b'{"number":4}') < said.index(b"HTTP/1.1 ", said.index(b"number\":4"))
        assert b"Connection: close" in said


async def test_a_client_that_does_not_read_costs_no_memory() -> None:
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/big") * 300)
        await wait_until(lambda: served.server.connections)
        (lane,) = served.server.connections
        await wait_until(lambda: lane.write_paused)
        assert lane.transport is not None
        assert lane.transport.get_write_buffer_size() < 500_000
        assert lane.in_flight() > 100
        for _ in range(300):
            assert len((await peer.answer()).body) == 300_000
        peer.close()


async def test_a_client_that_leaves_takes_what_was_held_with_it() -> None:
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(numbers(0, 200))
        await wait_until(lambda: served.server.connections)
        (lane,) = served.server.connections
        peer.writer.transport.abort()
        await wait_until(lambda: not served.server.connections)
        assert lane.outbox is None
        assert (await served.ask(get("/n/1", "Connection: close"))).endswith(b'{"number":1}')


async def test_an_endpoint_that_closes_the_transport_keeps_no_earlier_answer_back() -> None:
    async with serving(routes) as served:
        said = await served.ask(numbers(0, 5) + get("/hang-up"))
        assert [said.count(b'{"number":%d}' % number) for number in range(5)] == [1] * 5
