"""Server-sent events: their format, heartbeat, and goodbye."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apihour_http import SSE, Event, Request, Routes

from ..support import get, serving, wait_until


def encoded(event: Event) -> str:
    return event.encode(lambda data: json.dumps(data).encode()).decode()


def test_the_lines_of_an_event() -> None:
    for event, expected in {
        Event("plain"): "data: plain\n\n",
        Event({"a": 1}): 'data: {"a": 1}\n\n',
        Event("two\nlines\r\nthree\rfour"): "data: two\ndata: lines\ndata: three\ndata: four\n\n",
        Event("", event="tick", id="7", retry=3000): "id: 7\nevent: tick\nretry: 3000\ndata: \n\n",
        Event(retry=10): "retry: 10\n\n",
        Event("\x0bé\u2028"): "data: \x0bé\u2028\n\n",
    }.items():
        assert encoded(event) == expected


@pytest.mark.parametrize(("fields", "message"), [
    ({"event": "a\nb"}, "event='a\\nb'"), ({"id": "1\0"}, "one line"),
    ({"id": 5}, "id=5"), ({"retry": -1}, "milliseconds"), ({"retry": 1.5}, "milliseconds"),
    ({"retry": True}, "milliseconds"), ({"event": "a\rid: 6"}, "one line"),
])
def test_what_would_break_an_event(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        Event("x", **fields)
    assert message in str(raised.value)


async def nothing() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


@pytest.mark.parametrize("heartbeat", [-1, "5", float("nan"), True, float("inf")])
async def test_what_is_no_heartbeat(heartbeat: Any) -> None:
    with pytest.raises(ValueError, match="expected seconds"):
        SSE(nothing(), heartbeat=heartbeat)


async def test_events_arrive_as_they_are_made() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def events() -> AsyncIterator[Any]:
        while (item := await queue.get()) is not None:
            yield item

    routes = Routes()

    @routes.get("/")
    async def endpoint(request: Request) -> SSE:
        return SSE(events(), headers={"X-Id": request.headers.get("Last-Event-ID", "none")})

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/", "Last-Event-ID: 41"))
        head = (await peer.reader.readuntil(b"\r\n\r\n")).lower()
        for line in (b"content-type: text/event-stream\r\n", b"cache-control: no-store\r\n",
                     b"x-accel-buffering: no\r\n", b"x-id: 41\r\n"):
            assert line in head
        for item, wire in ((Event("a", id="42"), b"id: 42\ndata: a\n\n"),
                           ({"day": datetime.date(2020, 1, 2)}, b'data: {"day":"2020-01-02"}\n\n')):
            queue.put_nowait(item)
            assert (await peer.reader.readuntil(b"\n\n")).endswith(wire)
            await peer.reader.readexactly(2)
        queue.put_nowait(None)
        assert await peer.reader.readexactly(5) == b"0\r\n\r\n"
        peer.close()


async def test_a_comment_is_sent_after_a_silence() -> None:
    routes = Routes()
    routes.get("/")(lambda request: SSE(nothing(), heartbeat=0.05))
    routes.get("/silent")(lambda request: SSE(nothing(), heartbeat=0))
    async with serving(routes) as served:
        peer, silent = await served.connect(), await served.connect()
        silent.send(get("/silent"))
        await silent.reader.readuntil(b"\r\n\r\n")
        peer.send(get("/"))
        await peer.reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            assert await asyncio.wait_for(peer.reader.readexactly(8), 5) == b"3\r\n:\n\n\r\n"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent.reader.readexactly(1), 0.1)
        peer.close()
        silent.close()
        await wait_until(lambda: served.server.statistics()["connections"] == 0)


GOODBYES = {
    "event": Event("later", event="bye", retry=500), "data": {"bye": 1},
    "function": lambda: Event("later", event="bye"), "none": None,
}


@pytest.mark.parametrize(("which", "wire"), [
    ("event", b"event: bye\nretry: 500\ndata: later\n\n"), ("data", b'data: {"bye":1}\n\n'),
    ("function", b"event: bye\ndata: later\n\n"), ("none", b""),
])
async def test_it_ends_at_drain_with_a_goodbye(which: str, wire: bytes) -> None:
    cleaned = asyncio.Event()

    async def events() -> AsyncIterator[Any]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    routes = Routes()
    routes.get("/")(lambda request: SSE(events(), goodbye=GOODBYES[which]))
    async with serving(routes, linger=0.2) as served:
        peer = await served.connect()
        peer.send(get())
        await peer.reader.readuntil(b"first\n\n\r\n")
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 10))
        rest = await peer.rest()
        assert rest.endswith(wire + (b"\r\n" if wire else b"") + b"0\r\n\r\n")
        assert cleaned.is_set()
        await asyncio.wait_for(drain, 5)


async def test_an_iterator_may_say_goodbye_by_itself() -> None:
    async def events() -> AsyncIterator[Any]:
        try:
            yield "first"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "own goodbye"

    routes = Routes()
    routes.get("/")(lambda request: SSE(events()))
    async with serving(routes, linger=0.2) as served:
        peer = await served.connect()
        peer.send(get())
        await peer.reader.readuntil(b"first\n\n\r\n")
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 10))
        assert b"data: own goodbye\n\n" in await peer.rest()
        await asyncio.wait_for(drain, 5)


async def test_one_asked_for_while_draining_says_goodbye_at_once() -> None:
    routes = Routes()
    routes.get("/")(lambda request: SSE(nothing(), goodbye="bye"))
    async with serving(routes, linger=3.0) as served:
        peer = await served.connect()
        await wait_until(lambda: served.server.statistics()["connections"] == 1)
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 10))
        await asyncio.sleep(0.05)
        raw = await peer.ask(get())
        assert b"Connection: close" in raw and raw.endswith(b"data: bye\n\n\r\n0\r\n\r\n")
        await asyncio.wait_for(drain, 5)


async def test_a_goodbye_that_fails_cuts_it_off_and_is_logged() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))

    def goodbye() -> Any:
        raise ValueError("boom")

    routes = Routes()
    routes.get("/")(lambda request: SSE(nothing(), goodbye=goodbye))
    async with serving(routes, linger=0.2) as served:
        peer = await served.connect()
        peer.send(get())
        await peer.reader.readuntil(b"\r\n\r\n")
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 10))
        assert not (await peer.ask(b"")).endswith(b"0\r\n\r\n")
        assert isinstance(told[0]["exception"], ValueError)
        await asyncio.wait_for(drain, 5)
