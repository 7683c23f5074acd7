"""Work after the answer: its order, its failures, and the drain that waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from typing import Any

import pytest

from apihour_http import HTTPError, Request, Routes

from .support import context, get, serving, wait_until

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO")


@pytest.mark.parametrize("form", ["inline", "quick", "slow", "raising"])
async def test_it_begins_when_the_answer_is_written(form: str) -> None:
    order: list[str] = []
    done = asyncio.Event()

    async def work(request: Request) -> None:
        order.append(f"work of {WHO.get()}")
        done.set()

    def begin(request: Request) -> str:
        WHO.set("ada")
        request.after(work(request))
        order.append("endpoint")
        return "answer"

    async def quick(request: Request) -> str:
        return begin(request)

    async def slow(request: Request) -> str:
        answer = begin(request)
        await asyncio.sleep(0.05)
        order.append("slept")
        return answer

    async def raising(request: Request) -> str:
        begin(request)
        raise HTTPError(409)

    routes = Routes()
    routes.get("/")({"inline": begin, "quick": quick, "slow": slow, "raising": raising}[form])
    server_writes: Any = None
    async with serving(routes) as served:
        peer = await served.connect()
        await wait_until(lambda: served.server.connections)
        lane = next(iter(served.server.connections))
        server_writes = lane.write

        def write(data: bytes) -> None:
            order.append("written")
            server_writes(data)

        lane.write = write
        peer.send(get())
        answer = await peer.answer()
        assert answer.status == (409 if form == "raising" else 200)
        await asyncio.wait_for(done.wait(), 5)
        assert order == ["endpoint", *(["slept"] if form == "slow" else []), "written",
                         "work of ada"]
        await wait_until(lambda: served.server.statistics()["tasks"] == 0)
        peer.close()


async def test_a_drain_waits_for_it() -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await gate.wait()

    routes = Routes()

    @routes.get("/")
    async def endpoint(request: Request) -> None:
        request.after(work())

    async with serving(routes, linger=0.1) as served:
        await served.ask(get("/", "Connection: close"))
        await asyncio.wait_for(begun.wait(), 5)
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 20))
        await wait_until(lambda: not served.server.connections)
        await asyncio.sleep(0.3)
        assert not drain.done() and served.server.statistics()["tasks"] == 1
        gate.set()
        await asyncio.wait_for(drain, 5)


async def test_what_it_raises_is_logged_and_the_connection_goes_on() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))

    async def work() -> None:
        raise ValueError("boom")

    routes = Routes()

    @routes.get("/a b".replace(" ", "-"))
    async def endpoint(request: Request) -> str:
        request.after(work())
        return "fine"

    async with serving(routes) as served:
        peer = await served.connect()
        for _ in range(2):
            peer.send(get("/a-b?x=1"))
            assert (await peer.answer()).body == b"fine"
        await wait_until(lambda: len(told) == 2)
        assert "work failed after GET '/a-b?x=1'" in told[0]["message"]
        assert isinstance(told[0]["exception"], ValueError)
        peer.close()


async def test_what_is_left_at_the_stop_is_cancelled_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async def never() -> None:
        raise AssertionError("its request is not answered")

    routes = Routes()

    @routes.get("/")
    async def endpoint(request: Request) -> None:
        request.after(work())

    @routes.get("/hangs")
    async def hangs(request: Request) -> None:
        request.after(never())
        await asyncio.Event().wait()

    async with serving(routes, context=context()) as served:
        await served.ask(get("/", "Connection: close"))
        await asyncio.wait_for(begun.wait(), 5)
        peer = await served.connect()
        peer.send(get("/hangs"))
        await wait_until(lambda: served.server.statistics()["tasks"] == 2)
    assert cleaned.is_set()
    assert "work, the work after GET '/', was cancelled before its end" in caplog.text
    assert "never, the work after GET '/hangs', was cancelled before its end" in caplog.text
    peer.close()


async def test_what_is_no_coroutine_is_refused() -> None:
    async def work() -> None: ...

    told: list[str] = []
    routes = Routes()

    @routes.get("/")
    async def endpoint(request: Request) -> None:
        for wrong in (work, 5):
            try:
                request.after(wrong)  # type: ignore[arg-type]
            except TypeError as error:
                told.append(str(error))

    async with serving(routes) as served:
        await served.ask(get("/", "Connection: close"))
        assert served.server.statistics()["tasks"] == 0
    assert "expected a coroutine" in told[0] and told[0].endswith("request.after(work(…))")
    assert "request.after(5)" in told[1]


async def test_an_endpoint_in_a_thread_may_begin_it() -> None:
    """The loop belongs to another thread: in debug mode it says so."""
    asyncio.get_running_loop().set_debug(True)
    order: list[str] = []

    async def work() -> None:
        order.append(f"{WHO.get()} in {threading.current_thread().name}")

    routes = Routes()

    @routes.get("/", blocking=True)
    def endpoint(request: Request) -> str:
        WHO.set("ada")
        request.after(work())
        time.sleep(0.02)
        order.append("answered")
        return "fine"

    async with serving(routes) as served:
        answer = await served.ask(get("/", "Connection: close"))
        assert answer.endswith(b"fine"), answer
        await wait_until(lambda: len(order) == 2)
        assert order == ["answered", f"ada in {threading.current_thread().name}"]


async def test_work_that_begins_more_does_not_wait_for_later_requests() -> None:
    order: list[str] = []
    go, gate = asyncio.Event(), asyncio.Event()

    async def more() -> None:
        order.append("more")

    async def work(request: Request) -> None:
        await go.wait()
        request.after(more())

    routes = Routes()

    @routes.get("/")
    async def endpoint(request: Request) -> str:
        request.after(work(request))
        return "first"

    @routes.get("/long")
    async def long(request: Request) -> str:
        go.set()
        await gate.wait()
        return "second"

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/"))
        assert (await peer.answer()).body == b"first"
        peer.send(get("/long"))
        await wait_until(lambda: order == ["more"])
        gate.set()
        assert (await peer.answer()).body == b"second"
        peer.close()
