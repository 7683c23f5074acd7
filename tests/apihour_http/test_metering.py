"""Routes measured while somebody asks: right figures, and nothing left behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from apihour_http import HTTPServer, Response, Routes
from apihour_http.errors import HTTPError
from apihour_http.metering import Stepped


def make_routes() -> Routes:
    routes = Routes()

    @routes.get("/plain")
    def plain(request: Any) -> dict[str, Any]:
        return {}

    @routes.get("/slow/{n}")
    async def slow(request: Any) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {}

    @routes.get("/hot")
    async def hot(request: Any) -> dict[str, Any]:
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            pass
        return {}

    @routes.get("/broken")
    async def broken(request: Any) -> dict[str, Any]:
        raise ValueError("no luck")

    @routes.get("/busy")
    def busy(request: Any) -> dict[str, Any]:
        raise HTTPError(503)

    @routes.get("/teapot")
    async def teapot(request: Any) -> Response:
        return Response(418)

    @routes.get("/never")
    async def never(request: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    return routes


def make_app() -> web.Application:
    async def hosted(request: web.Request) -> web.Response:
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        await asyncio.sleep(0.01)
        return web.Response(status=500 if request.match_info["id"] == "9" else 200)

    app = web.Application()
    app.router.add_get("/hosted/{id}", hosted)
    return app


class House:
    """A server that listens, and GETs to it, each on a connection of its own."""

    def __init__(self, server: HTTPServer, port: int) -> None:
        self.server, self.port = server, port

    async def get(self, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        await asyncio.wait_for(reader.read(), 30)
        writer.close()

    async def measured(self, *paths: str, seconds: float = 0.6) -> dict[str, dict[str, Any]]:
        measuring = asyncio.ensure_future(self.server.measure(seconds))
        await asyncio.sleep(0)
        for path in paths:
            await self.get(path)
        assert not measuring.done(), "the machine was too slow for the measure"
        return {row["route"]: row for row in await measuring}


def run(main: Any, routes: Routes | None = None, app: Any = None) -> None:
    async def go() -> None:
        server = HTTPServer(routes or make_routes(), app)
        listening = await server.serve("127.0.0.1", 0)
        try:
            await main(House(server, listening.sockets[0].getsockname()[1]))
        finally:
            listening.close()
            await server.stop()

    asyncio.run(go())


def test_requests_latency_errors_and_cpu_by_route() -> None:
    async def main(house: House) -> None:
        found = await house.measured(
            *["/plain"] * 3, "/slow/1", "/slow/2", "/hot", "/broken", "/busy", "/teapot",
            seconds=5.0)
        counts = {route: (row["requests"], row["errors"]) for route, row in found.items()}
        assert counts == {
            "GET /plain": (3, 0), "GET /slow/{n}": (2, 0), "GET /hot": (1, 0),
            "GET /broken": (1, 1), "GET /busy": (1, 1), "GET /teapot": (1, 0)}
        for bucket, _ in found["GET /slow/{n}"]["latency"]:
            assert 0.045 < 1.05**bucket < 5
        assert 0.03 <= found["GET /hot"]["cpu"] < 1
        assert found["GET /slow/{n}"]["cpu"] < 0.03
        assert all(row["running"] == 0 for row in found.values())

    run(main)


def test_the_applications_routes() -> None:
    async def main(house: House) -> None:
        found = await house.measured("/hosted/1", "/hosted/9", "/nowhere", "/plain", seconds=5.0)
        row = found["GET /hosted/{id}"]
        assert (row["requests"], row["errors"]) == (2, 1)
        assert 0.04 <= row["cpu"] < 1
        assert found[""]["requests"] == 1 and found["GET /plain"]["requests"] == 1

    run(main, app=make_app())


def test_nothing_is_left_behind_whoever_measures_when() -> None:
    routes = make_routes()

    async def main(house: House) -> None:
        before = {one: one.call for one in routes}
        first = asyncio.ensure_future(house.server.measure(1.0))
        second = asyncio.ensure_future(house.server.measure(60.0))
        await asyncio.sleep(0)
        await house.get("/plain")
        assert [row["requests"] for row in await first] == [1]
        await house.get("/plain")
        assert house.server.now.meter is not None
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert house.server.now.meter is None
        assert {one: one.call for one in routes} == before

    run(main, routes)


def test_two_servers_of_the_same_routes_are_told_apart() -> None:
    routes = make_routes()

    async def main(house: House) -> None:
        other = HTTPServer(routes)
        listening = await other.serve("127.0.0.1", 0)
        neighbour = House(other, listening.sockets[0].getsockname()[1])
        before = {one: one.call for one in routes}
        measuring = [asyncio.ensure_future(one.server.measure(seconds))
                     for one, seconds in ((house, 1.0), (neighbour, 1.5))]
        await asyncio.sleep(0)
        await house.get("/plain")
        await neighbour.get("/plain")
        await neighbour.get("/hot")
        ours, theirs = await asyncio.gather(*measuring)
        assert {row["route"]: row["requests"] for row in ours} == {"GET /plain": 1}
        assert {row["route"]: row["requests"] for row in theirs} == {"GET /plain": 1, "GET /hot": 1}
        assert {one: one.call for one in routes} == before
        listening.close()
        await other.stop()

    run(main, routes)


def test_what_never_ends_is_running() -> None:
    async def main(house: House) -> None:
        measuring = asyncio.ensure_future(house.server.measure(0.5))
        await asyncio.sleep(0)
        hanging = asyncio.ensure_future(house.get("/never"))
        [row] = await measuring
        assert (row["route"], row["requests"], row["running"]) == ("GET /never", 0, 1)
        hanging.cancel()

    run(main)


def test_a_measured_task_shows_its_frames_and_obeys() -> None:
    async def main(house: House) -> None:
        from apihour.ops.commands.tasks import task_frames

        measuring = asyncio.ensure_future(house.server.measure(0.6))
        await asyncio.sleep(0)
        hanging = asyncio.ensure_future(house.get("/never"))
        async with asyncio.timeout(30):
            while not (found := [one for one in asyncio.all_tasks()  # noqa: ASYNC110
                                 if "never" in one.get_name() or any(
                                     frame.f_code.co_name == "never" for frame in task_frames(one)
                                 )]):
                await asyncio.sleep(0.005)
        assert any("never" in frame.f_code.co_name for frame in task_frames(found[0]))
        found[0].cancel()
        await measuring
        await asyncio.wait({hanging})

    run(main)


async def _twice() -> str:
    try:
        await asyncio.sleep(10)
    except TimeoutError:
        return "caught"
    return "slept"


def test_stepped_passes_results_and_errors_through() -> None:
    async def main() -> None:
        assert await Stepped(asyncio.sleep(0, "value")) == "value"
        with pytest.raises(ZeroDivisionError):
            await Stepped(_fails())
        stepped = Stepped(_twice())
        stepped.send(None)
        with pytest.raises(StopIteration, match="caught"):
            stepped.throw(TimeoutError())
        task = asyncio.create_task(Stepped(_twice()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


async def _fails() -> None:
    raise ZeroDivisionError
