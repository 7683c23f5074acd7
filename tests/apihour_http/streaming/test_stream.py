"""Streams: framing, pace, disconnects, failures and drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apihour_http import HTTPError, Request, RouteError, Routes, Stream

from ..support import context, get, serving, wait_until


async def counted(pieces: list[Any]) -> AsyncIterator[Any]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def streaming(*pieces: Any, **options: Any) -> Routes:
    routes = Routes()

    @routes.get("/later")
    async def later(request: Request) -> Stream:
        await asyncio.sleep(0)
        return Stream(counted(list(pieces)), **options)

    @routes.get("/plain")
    def plain(request: Request) -> Stream:
        return Stream(counted(list(pieces)), **options)

    @routes.get("/next")
    async def following(request: Request) -> str:
        return "next"

    return routes


BOTH = pytest.mark.parametrize("path", ["/later", "/plain"])


@BOTH
async def test_http_1_1_is_chunked_and_the_connection_goes_on(path: str) -> None:
    async with serving(streaming("a", b"", b"bc" * 100, "é")) as served:
        peer = await served.connect()
        peer.send(get(path) + get("/next") + get(path))
        for _ in range(2):
            answer = await peer.answer()
            assert answer.body == b"a" + b"bc" * 100 + "é".encode()
            assert answer.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in answer.headers
            if _ == 0:
                assert (await peer.answer()).body == b"next"
        peer.send(get("/next"))
        assert (await peer.answer()).body == b"next"
        assert served.server.statistics()["requests"] == 4
        peer.close()


@BOTH
async def test_http_1_0_reads_to_the_end_of_the_connection(path: str) -> None:
    async with serving(streaming("ab", "c")) as served:
        raw = await served.ask(get(path, "Connection: keep-alive", version="1.0"))
        head, _, body = raw.partition(b"\r\n\r\n")
        assert body == b"abc" and b"connection: close" in head.lower()
        assert b"chunked" not in head


@BOTH
async def test_head_is_the_head_alone(path: str) -> None:
    closed = []

    async def body() -> AsyncIterator[bytes]:
        closed.append("never")
        yield b""

    routes = streaming("ab", headers={"X-Kind": "feed", "content-type": "text/csv"}, status=201)
    routes.get("/unread")(lambda request: Stream(body()))
    async with serving(routes) as served:
        peer = await served.connect()
        for where, status in ((path, 201), ("/unread", 200)):
            peer.send(get(where).replace(b"GET", b"HEAD"))
            answer = await peer.answer(head=True)
            assert answer.status == status
        peer.send(get(path))
        answer = await peer.answer()
        assert answer.headers["content-type"] == "text/csv" and answer.headers["x-kind"] == "feed"
        assert closed == []
        peer.close()


async def test_a_client_that_does_not_read_stops_the_iterator() -> None:
    made, ended = [], []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                made.append(1)
                yield b"x" * 65536
        finally:
            ended.append(1)

    routes = Routes()
    routes.get("/")(lambda request: Stream(endless()))
    routes.get("/quick")(lambda request: "quick")
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/"))
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        last = -1
        while last != len(made):  # the buffers of the kernel fill up
            last = len(made)
            await asyncio.sleep(0.1)
        assert 0 < last < 500
        assert (await served.ask(get("/quick", "Connection: close"))).endswith(b"quick")
        peer.writer.transport.abort()
        await wait_until(lambda: ended == [1])
        await wait_until(lambda: served.server.statistics()["connections"] == 0)


async def test_an_iterator_that_never_waits_lets_the_others_live() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"" if len(seen) % 2 else b"x"
            seen.append(1)

    seen: list[int] = []
    routes = Routes()
    routes.get("/")(lambda request: Stream(endless()))
    routes.get("/quick")(lambda request: "quick")
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/"))
        await peer.reader.readuntil(b"\r\n\r\n")
        for _ in range(5):
            assert (await served.ask(get("/quick", "Connection: close"))).endswith(b"quick")
        peer.close()


@pytest.mark.parametrize("way", ["reset", "end of a feed"])
async def test_a_client_that_is_gone_cancels_the_iterator(way: str) -> None:
    ended = asyncio.Event()
    entered = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"first"
        try:
            entered.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    routes = Routes()
    routes.get("/")(lambda request: Stream(waiting(), endless=way != "reset"))
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/"))
        await asyncio.wait_for(entered.wait(), 5)
        if way == "reset":
            peer.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)
        await wait_until(lambda: served.server.statistics()["connections"] == 0)


async def test_an_iterator_that_swallows_that_is_closed() -> None:
    closed = asyncio.Event()
    entered = asyncio.Event()

    async def stubborn() -> AsyncIterator[str]:
        try:
            for _ in range(60):
                with contextlib.suppress(asyncio.CancelledError):
                    yield "x"
                    entered.set()
                    await asyncio.sleep(0.2)
        finally:
            closed.set()

    routes = Routes()
    routes.get("/")(lambda request: Stream(stubborn(), endless=True))
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/"))
        await asyncio.wait_for(entered.wait(), 5)
        peer.writer.transport.abort()
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_client_that_closes_its_side_gets_the_rest() -> None:
    gate = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"last"

    routes = Routes()
    routes.get("/")(lambda request: Stream(body()))
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(get("/"))
        peer.writer.write_eof()
        assert b"5\r\nfirst\r\n" in await peer.reader.readuntil(b"first\r\n")
        await asyncio.sleep(0.05)
        gate.set()
        assert await peer.rest() == b"4\r\nlast\r\n0\r\n\r\n"
        peer.close()


async def failing(before: list[bytes], error: Exception) -> AsyncIterator[bytes]:
    for piece in before:
        yield piece
    raise error


async def test_what_fails_before_the_first_piece_is_answered() -> None:
    routes = Routes()
    routes.get("/gone")(lambda request: Stream(failing([], HTTPError(410, "sold out"))))
    routes.get("/bad")(lambda request: Stream(failing([], ValueError("boom"))))
    routes.get("/type")(lambda request: Stream(counted([5])))

    @routes.get("/header")
    def header(request: Request) -> Stream:
        stream = Stream(counted([b"x"]))
        stream.headers.append(("X", "a\r\nb: c"))
        return stream

    async with serving(routes) as served:
        peer = await served.connect()
        for path, status in (("/gone", 410), ("/bad", 500), ("/type", 500), ("/header", 500)):
            for method in (b"GET",) if path != "/header" else (b"GET", b"HEAD"):
                peer.send(get(path).replace(b"GET", method))
                answer = await peer.answer(head=method == b"HEAD")
                assert answer.status == status and "b" not in answer.headers
        peer.close()


async def test_what_fails_later_is_cut_off_and_logged() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    routes = Routes()
    routes.get("/")(lambda request: Stream(failing([b"half"], ValueError("boom"))))
    async with serving(routes) as served:
        peer = await served.connect()
        assert not (await peer.ask(get())).endswith(b"0\r\n\r\n")
        assert isinstance(told[0]["exception"], ValueError)
        peer.close()


async def test_a_stream_is_sent_to_its_end_at_drain_and_a_feed_ends() -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"last"

    routes = Routes()
    routes.get("/file")(lambda request: Stream(slow()))
    routes.get("/feed")(lambda request: Stream(slow(), endless=True))
    async with serving(routes, linger=0.2) as served:
        file, feed = await served.connect(), await served.connect()
        for peer, path in ((file, "/file"), (feed, "/feed")):
            peer.send(get(path))
            await peer.reader.readuntil(b"first\r\n")
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 10))
        assert await feed.rest() == b"0\r\n\r\n"
        assert not drain.done()
        gate.set()
        assert await file.rest() == b"4\r\nlast\r\n0\r\n\r\n"
        await asyncio.wait_for(drain, 5)


async def test_it_is_logged_when_it_ends_and_when_its_client_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    entered = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"12345"
        entered.set()
        await asyncio.Event().wait()

    routes = streaming("abc")
    routes.get("/wait")(lambda request: Stream(waiting(), endless=True))
    async with serving(routes, access_log="common", context=context()) as served:
        peer = await served.connect()
        peer.send(get("/later"))
        await peer.answer()
        peer.send(get("/wait"))
        await asyncio.wait_for(entered.wait(), 5)
        peer.writer.transport.abort()
        await wait_until(lambda: served.server.statistics()["connections"] == 0)
    lines = [r.getMessage() for r in caplog.records if r.name == "apihour_http.access"]
    text = "\n".join(lines)
    assert '"GET /later HTTP/1.1" 200 3' in text and '"GET /wait HTTP/1.1" 200 5' in text


async def test_misuse_is_told() -> None:
    async def uncalled() -> AsyncIterator[bytes]:
        yield b""

    for body, message in ((5, "Stream(5): expected an async iterator"),
                          (uncalled, "a function that was not called"),
                          ([b""], "expected an async iterator")):
        with pytest.raises(TypeError, match=message.replace("(", r"\(").replace(")", r"\)")):
            Stream(body)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="status=204"):
        Stream(uncalled(), 204)
    with pytest.raises(ValueError, match="control characters"):
        Stream(uncalled(), headers={"X": "a\nb"})

    async def endpoint(request: Request) -> AsyncIterator[bytes]:
        yield b""

    def sync_endpoint(request: Request) -> Any:
        yield b""

    for function in (endpoint, sync_endpoint):
        with pytest.raises(RouteError, match=r"is a generator: expected .*Stream\(…\)"):
            Routes().get("/")(function)


async def test_a_known_length_is_told_and_held() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    routes = Routes()

    @routes.get("/{length:int}")
    def endpoint(request: Request) -> Stream:
        return Stream(counted(["ab", "cd"]), length=request.match_info["length"])

    async with serving(routes) as served:
        peer = await served.connect()
        for version in ("1.1", "1.0"):
            peer.send(get("/4", "Connection: keep-alive", version=version))
            answer = await peer.answer()
            assert answer.body == b"abcd" and answer.headers["content-length"] == "4"
            assert "transfer-encoding" not in answer.headers
        for length, status in ((1, 500), (0, 500)):
            peer.send(get(f"/{length}"))
            assert (await peer.answer()).status == status
        for length in (3, 5):
            raw = await served.ask(get(f"/{length}"))
            assert not raw.endswith(b"abcd" if length == 3 else b"abcde")
        peer.close()
    assert len(told) == 4
    assert "a stream of 4 bytes: expected length=5" in str(told[-1]["exception"])
    with pytest.raises(ValueError, match="length=-1"):
        Stream(counted([]), length=-1)
