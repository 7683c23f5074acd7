"""Limits, timeouts and flow: what a hostile or slow client can do, and what it gets."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from aiohttp import web

from apihour_http import Request, Response, Routes
from apihour_http.connection.connection import HTTPConnection

from ..support import get, serving, wait_until
from ..test_corpus import everything

LANES = pytest.mark.parametrize("lane", ["direct", "app"])
HEAD = b"POST /x HTTP/1.1\r\nHost: t\r\n"


@LANES
async def test_a_slow_head_is_answered_408(lane: str) -> None:
    async with serving(**everything(lane), header_timeout=0.05) as served:
        peer = await served.connect()
        peer.send(b"GET / HTTP/1.1\r\nHost:")
        answer = await peer.answer()
        assert answer.status == 408 and answer.headers["connection"] == "close"
        assert await peer.rest() == b""
        peer.close()
        assert served.server.statistics()["timeouts"] == 1


@LANES
async def test_a_slow_body_is_answered_408(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(**everything(lane), body_timeout=0.05, body_rate=10_000.0) as served:
        peer = await served.connect()
        peer.send(HEAD + b"Content-Length: 1000\r\n\r\nabc")
        assert (await peer.answer()).status == 408
        peer.close()
    assert "Traceback" not in caplog.text


@LANES
async def test_a_body_at_the_minimum_rate_is_patiently_read(lane: str) -> None:
    async with serving(**everything(lane), body_timeout=0.05, body_rate=10.0) as served:
        peer = await served.connect()
        peer.send(HEAD + b"Content-Length: 10\r\n\r\n")
        for _ in range(10):
            peer.send(b"x")
            await asyncio.sleep(0.02)
        assert (await peer.answer()).body == b'{"length":10}'.replace(
            b":", b": " if lane == "app" else b":")
        peer.close()


@LANES
async def test_silence_closes_without_a_word(lane: str) -> None:
    async with serving(**everything(lane), keepalive=0.05) as served:
        fresh = await served.connect()
        used = await served.connect()
        used.send(get())
        assert (await used.answer()).status == 200
        assert await used.rest(2) == b""
        assert await fresh.rest(2) == b""
        fresh.close()
        used.close()


@LANES
async def test_without_keep_alive_the_first_request_is_waited_for(lane: str) -> None:
    async with serving(**everything(lane), keepalive=0, header_timeout=0.5) as served:
        peer, silent = await served.connect(), await served.connect()
        await wait_until(lambda: len(served.server.connections) == 2)
        await asyncio.sleep(0.05)  # its end would come in the next turn
        peer.send(get() * 2)
        assert "connection" not in (await peer.answer()).headers
        assert (await peer.answer()).headers["connection"] == "close"
        assert await peer.rest(5) == b""
        assert await silent.rest(30) == b""
        peer.close()
        silent.close()


@LANES
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_beyond_the_limit_is_not_read_on(lane: str, chunked: bool) -> None:
    sent = 0
    async with serving(**everything(lane), max_body=1024 * 1024) as served:
        peer = await served.connect()
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n" if chunked else b"x" * 65536
        peer.send(HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked
                          else b"Content-Length: 1000000000\r\n\r\n"))
        try:
            while sent < 200 * 1024 * 1024:
                peer.send(block)
                sent += len(block)
                await peer.writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        status = b""
        try:
            status = await asyncio.wait_for(peer.reader.readline(), 2)
        except ConnectionError:
            pass
        assert b"413" in status or not status
        assert sent < 30 * 1024 * 1024, "the server read on"
        peer.close()
        peer = await served.connect()
        peer.send(HEAD + b"Content-Length: 2000000\r\n\r\n" + (b"" if lane == "direct"
                                                            else b"x" * 1_900_000))
        assert (await peer.answer()).status == 413
        peer.close()


@LANES
async def test_a_client_that_never_reads_stops_being_served(lane: str) -> None:
    """Its answers do not pile up, and its requests are not read on."""
    routes, app = Routes(), web.Application()
    served_requests = 0

    def count() -> None:
        nonlocal served_requests
        served_requests += 1

    @routes.get("/big")
    def big(request: Request) -> bytes:
        count()
        return b"x" * 20_000

    async def hosted(request: web.Request) -> web.Response:
        count()
        return web.Response(body=b"x" * 20_000)

    app.router.add_get("/big", hosted)
    what: dict[str, Any] = {"routes": routes} if lane == "direct" else {"app": app}
    async with serving(**what, write_timeout=0.5) as served:
        peer = await served.connect()
        request = get("/big")
        sent = 0
        try:
            async with asyncio.timeout(10):
                while True:
                    peer.send(request * 200)
                    await asyncio.wait_for(peer.writer.drain(), 0.2)
                    sent += 200
        except TimeoutError:
            pass
        wire = next(iter(served.server.connections))
        transport = wire.transport
        assert transport is not None
        # The kernel's buffers take some megabytes; ours holds no more than its high water
        # and one answer, and a slice of requests.
        assert transport.get_write_buffer_size() < 200_000
        assert len(wire.answers.queue) < 700 and len(wire.intake.held) <= 262144
        assert served_requests < sent
        # Nothing is taken for half a second: it is cut off.
        await wait_until(lambda: not served.server.connections)
        peer.close()


async def test_pipelined_requests_do_not_starve_others() -> None:
    routes = Routes()
    order: list[str] = []

    @routes.get("/{who}")
    def answer(request: Request) -> dict[str, str]:
        order.append(request.match_info["who"])
        return {}

    async with serving(routes, budget=10) as served:
        greedy, modest = await served.connect(), await served.connect()
        greedy.send(get("/g") * 300)
        modest.send(get("/m"))
        await modest.answer()
        for _ in range(300):
            await greedy.answer()
        assert order.count("g") == 300
        # The modest one was answered long before the greedy one was done.
        assert order.index("m") < 250
        greedy.close()
        modest.close()


@pytest.mark.alone
async def test_one_byte_chunks_do_not_slow_the_neighbours() -> None:
    async with serving(**everything("app")) as served:
        hostile, other = await served.connect(), await served.connect()
        hostile.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 150_000)
        worst = 0.0
        loop = asyncio.get_running_loop()
        for _ in range(30):
            start = loop.time()
            other.send(get())
            await other.answer()
            worst = max(worst, loop.time() - start)
        hostile.send(b"0\r\n\r\n")
        assert (await hostile.answer()).body == b'{"length": 150000}'
        assert worst < 0.08
        hostile.close()
        other.close()


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
async def test_responses_cannot_be_split(value: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        Response(200, {"X-Name": value})
    with pytest.raises(ValueError, match="token"):
        Response(200, {value: "x"})
    with pytest.raises(ValueError, match="set by the server"):
        Response(200, {"Content-Length": "5"})
    routes, app = Routes(), web.Application()

    @routes.get("/direct")
    def direct(request: Request) -> Any:
        response = Response(200)
        response.headers.append(("X-Name", value))
        return response

    async def hosted(request: web.Request) -> web.Response:
        return web.Response(headers={"X-Name": value})

    app.router.add_get("/app", hosted)
    async with serving(routes, app) as served:
        for path in ("/app", "/direct"):
            raw = await served.ask(get(path, "Connection: close"))
            assert b"\nX: y" not in raw and raw.count(b"HTTP/1.1 ") <= 1, raw


async def test_limits_can_be_set_lower() -> None:
    async with serving(
        **everything("direct"), max_line=20, max_field=50, max_fields=3
    ) as served:
        for data, status in (
            (get("/" + "a" * 18), 200), (get("/" + "a" * 20), 414),
            (get("/", "X: " + "y" * 40), 200), (get("/", "X: " + "y" * 50), 431),
            (get("/", "A: b", "C: d"), 200), (get("/", "A: b", "C: d", "E: f"), 431),
        ):
            peer = await served.connect()
            peer.send(data)
            assert (await peer.answer()).status == status, data
            peer.close()


async def test_http_1_0_and_connection_close() -> None:
    async with serving(**everything("direct")) as served:
        raw = await served.ask(get("/", version="1.0"))
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n") and b"Connection: close\r\n" in raw
        peer = await served.connect()
        for _ in range(2):
            peer.send(get("/", "Connection: keep-alive", version="1.0"))
            assert (await peer.answer()).headers["connection"] == "keep-alive"
        peer.send(get("/", "Connection: close"))
        assert (await peer.answer()).headers["connection"] == "close"
        assert await peer.rest() == b""
        peer.close()


async def test_another_upgrade_is_ignored() -> None:
    async with serving(**everything("direct")) as served:
        raw = await served.ask(
            get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x")
            + get("/b", "Connection: close"))
        assert raw.count(b"HTTP/1.1 200 OK") == 2


async def test_a_declined_websocket_leaves_the_connection_usable() -> None:
    handshake = get("/ws", "Connection: upgrade", "Upgrade: websocket")
    async with serving(**everything("app")) as served:
        raw = await served.ask(handshake + get("/after", "Connection: close"))
        assert raw.count(b"HTTP/1.1 200 OK") == 2


async def test_access_log_in_every_format(caplog: pytest.LogCaptureFixture) -> None:
    for style, expected in {
        "common": '127.0.0.1 - - [',
        "combined": '"GET /x?a=%22 HTTP/1.1" 200 12 "-" "me\\"\\x1b"',
        "json": '"method": "GET", "target": "/x?a=%22", "version": "HTTP/1.1", "status": 200',
    }.items():
        for lane in ("direct", "app"):
            caplog.clear()
            with caplog.at_level(logging.INFO, "apihour_http.access"):
                async with serving(**everything(lane), access_log=style) as served:
                    raw = get("/x?a=%22", "Connection: close")
                    if style == "combined":
                        served.server.service.log.add(  # type: ignore[union-attr]
                            (0.0, "127.0.0.1", "GET", "/x?a=%22", "HTTP/1.1", 200, 12, 0.1,
                             None, 'me"\x1b'))
                    assert b"200" in await served.ask(raw)
            assert expected in caplog.text, (style, lane)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the access log in the common format, without address and time."""
    text = "\n".join(record.getMessage() for record in caplog.records)
    return [line.partition("] ")[2] for line in text.splitlines()]


async def test_head_is_logged_without_the_length_of_a_body(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "apihour_http.access"):
        async with serving(**everything("direct"), access_log="common") as served:
            await served.ask(get("/x", "Connection: close").replace(b"GET", b"HEAD"))
    assert lines(caplog) == ['"HEAD /x HTTP/1.1" 200 0']


@LANES
async def test_refusals_are_in_the_access_log(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = everything(lane) | {
        "access_log": "common", "header_timeout": 0.05, "body_timeout": 0.05, "max_fields": 3}
    chunked = get("/x\\", "Transfer-Encoding: chunked").replace(b"GET", b"POST")
    requests = {
        b"GET /\x1b\r\n\r\n": '"- - -" 400',
        b"GET / HTTP/1.1\r\n\r\n": '"- - -" 400',
        b"GET / HT": '"- - -" 408',
        get("/", "A: b", "C: d", "E: f"): '"- - -" 431',
        get("/", version="3.0"): '"- - -" ',
        get("/" + "a" * 9000): '"- - -" 414',
    }
    if lane == "direct":
        requests[chunked.replace(b"\\", b"?%22")] = '"POST /x?%22 HTTP/1.1" 408'
        requests[get("/big", "Content-Length: 9999999")] = '"GET /big HTTP/1.1" 413'
    with caplog.at_level(logging.INFO, "apihour_http.access"):
        async with serving(**options) as served:
            for data, expected in requests.items():
                caplog.clear()
                raw = await served.ask(data)
                assert served.server.service.log is not None
                served.server.service.log.flush()
                status, _, body = raw.partition(b" ")[2].partition(b" ")
                size = len(body.partition(b"\r\n\r\n")[2])
                assert [line[:len(expected)] for line in lines(caplog)] == [expected], data
                assert lines(caplog)[0].endswith(f'" {status.decode()} {size}'), data


def lanes_in_memory() -> list[Any]:
    return [found for found in gc.get_objects() if type(found) is HTTPConnection]


@LANES
async def test_a_connection_that_is_gone_waits_for_no_garbage_collector(lane: str) -> None:
    routes, app = Routes(), web.Application()

    @routes.get("/")
    async def direct(request: Request) -> dict[str, str]:
        return {}

    async def hosted(request: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/", hosted)
    what: dict[str, Any] = {"routes": routes} if lane == "direct" else {"app": app}
    gc.collect()
    before = len(lanes_in_memory())  # kept by other tests
    gc.disable()
    try:
        async with serving(**what) as served:
            await served.ask(get("/", "Connection: close"))
            await wait_until(lambda: not served.server.connections)
            await wait_until(lambda: len(lanes_in_memory()) <= before)
    finally:
        gc.enable()
