"""The options of a route: timeout, max_in_flight, and those that are refused."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apihour_http import SSE, HTTPError, Request, RouteError, Routes

from ..support import get, serving, wait_until


async def test_a_call_that_takes_too_long_is_cancelled_and_answered_503() -> None:
    cancelled = asyncio.Event()
    routes = Routes()

    @routes.get("/slow", timeout=0.05)
    async def slow(request: Request) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    @routes.get("/own", timeout=60)
    async def own(request: Request) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "own"
        return ""

    @routes.get("/raises", timeout=60)
    async def raises(request: Request) -> None:
        raise TimeoutError("a database's")

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/slow"))
        answer = await peer.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert json.loads(answer.body)["detail"] == "no answer within 0.05 s"
        assert cancelled.is_set()
        peer.send(get("/own") + get("/raises"))
        assert (await peer.answer()).body == b"own"
        assert (await peer.answer()).status == 500
        peer.close()


@pytest.mark.parametrize("form", ["async", "blocking"])
async def test_beyond_max_in_flight_the_answer_is_503(form: str) -> None:
    import threading

    gate, thread_gate = asyncio.Event(), threading.Event()
    routes = Routes()
    if form == "async":
        @routes.get("/", max_in_flight=2)
        async def wait(request: Request) -> str:
            await gate.wait()
            if "fail" in request.query:
                raise HTTPError(409)
            return "done"
    else:
        @routes.get("/", max_in_flight=2, blocking=True)
        def wait_in_thread(request: Request) -> str:
            thread_gate.wait(30)
            if "fail" in request.query:
                raise HTTPError(409)
            return "done"

    async with serving(routes) as served:
        running = [await served.connect() for _ in range(2)]
        for peer, path in zip(running, ("/", "/?fail"), strict=True):
            peer.send(get(path))
        await wait_until(lambda: served.server.statistics()["in_flight"] == 2)
        third = await served.connect()
        third.send(get())
        answer = await third.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        gate.set()
        thread_gate.set()
        assert [(await peer.answer()).status for peer in running] == [200, 409]
        third.send(get())
        assert (await third.answer()).body == b"done"


async def test_a_stream_counts_until_its_client_is_gone() -> None:
    async def events() -> AsyncIterator[str]:
        while True:
            yield "x"
            await asyncio.sleep(0.01)

    routes = Routes()
    routes.get("/", max_in_flight=1)(lambda request: SSE(events()))
    async with serving(routes) as served:
        gc.disable()  # it must not hang on the collector
        try:
            for _ in range(2):
                peer = await served.connect()
                peer.send(get())
                assert b" 200 " in await peer.reader.readuntil(b"\r\n\r\n")
                other = await served.connect()
                other.send(get())
                assert (await other.answer()).status == 503
                other.close()
                peer.writer.transport.abort()
                await wait_until(lambda: served.server.statistics()["connections"] == 0)
        finally:
            gc.enable()


async def test_a_stream_that_a_middleware_replaces_does_not_count() -> None:
    async def events() -> AsyncIterator[str]:
        yield "x"

    routes = Routes()
    routes.get("/", max_in_flight=1)(lambda request: SSE(events()))

    @routes.middleware
    async def replace(request: Request, call: Callable[[Request], Any]) -> Any:
        return (await call(request)).status

    async with serving(routes) as served:
        peer = await served.connect()
        for _ in range(3):
            peer.send(get())
            assert (await peer.answer()).body == b"200"
        peer.close()


@pytest.mark.parametrize(("options", "message"), [
    ({"timout": 5}, "route GET /x: option 'timout': expected one of blocking, compress, "
     "description, include_in_schema, max_body, max_in_flight, status, stream_body, summary, "
     "tags, timeout"),
    ({"timeout": 0}, "timeout=0: expected seconds above 0"),
    ({"timeout": "5"}, "timeout='5': expected seconds"),
    ({"timeout": float("nan")}, "expected seconds"), ({"timeout": True}, "expected seconds"),
    ({"max_in_flight": 0}, "max_in_flight=0: expected a whole number from 1 on"),
    ({"max_in_flight": 1.5}, "expected a whole number"),
    ({"status": 600}, "status=600: expected 200 to 599"), ({"status": True}, "200 to 599"),
    ({"tags": "users"}, "tags='users': expected a list of texts"),
    ({"summary": 5}, "summary=5: expected a text"),
    ({"include_in_schema": 1}, "expected true or false"),
])
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RouteError) as raised:
        Routes().get("/x", **options)
    assert message in str(raised.value)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_plain_function_cannot_be_timed(blocking: bool) -> None:
    with pytest.raises(RouteError, match=r"timeout=5: expected an async def"):
        Routes().get("/x", timeout=5, blocking=blocking)(lambda request: None)


async def test_a_route_may_stay_out_of_the_document() -> None:
    routes = Routes()
    routes.get("/told")(lambda request: None)
    routes.get("/secret", include_in_schema=False)(lambda request: None)
    async with serving(routes, openapi=True) as served:
        peer = await served.connect()
        peer.send(get("/openapi.json"))
        assert list(json.loads((await peer.answer()).body)["paths"]) == ["/told"]
        peer.close()
