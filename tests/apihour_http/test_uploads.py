"""Bodies that are taken as they come: pace, limits, and the ways of their clients to leave."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from apihour_http import HTTPError, Request, RouteError, Routes, Stream
from apihour_http.connection.uploads import Upload

from .support import context, get, serving, wait_until


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(path: str, *pieces: bytes, end: bool = True) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n" * end


def table(log: list[Any] | None = None, **options: Any) -> Routes:
    seen = log if log is not None else []
    routes = Routes()

    @routes.post("/digest", stream_body=True, **options)
    async def digest(request: Request) -> dict[str, Any]:
        hashed, size = hashlib.sha256(), 0
        seen.append("begun")
        try:
            async for piece in request.stream():
                size += len(piece)
                hashed.update(piece)
                seen.append(size)
        except BaseException as error:
            seen.append(error)
            raise
        return {"size": size, "sha256": hashed.hexdigest()}

    @routes.post("/read", stream_body=True, **options)
    async def read(request: Request) -> Any:
        return [len(await request.read()), await request.json()]

    @routes.post("/unread", stream_body=True, **options)
    async def unread(request: Request) -> str:
        return "not looked at"

    @routes.get("/next")
    async def following(request: Request) -> str:
        return "next"

    return routes


def expected(body: bytes) -> bytes:
    return b'{"size":%d,"sha256":"%b"}' % (len(body), hashlib.sha256(body).hexdigest().encode())


BIG = bytes(range(256)) * 12000  # 3 MB, beyond the server's max_body


@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_a_body_beyond_the_servers_limit_comes_whole_and_the_connection_goes_on(
    parser: str,
) -> None:
    async with serving(table(max_body=8 << 20), parser=parser) as served:
        peer = await served.connect()
        for data, body in ((post("/digest", BIG), BIG), (post("/digest", b"ab"), b"ab"),
                           (chunked("/digest", BIG, b"x"), BIG + b"x"),
                           (post("/digest", b""), b"")):
            peer.send(data + get("/next"))
            assert (await peer.answer(30)).body == expected(body)
            assert (await peer.answer()).body == b"next"
        assert served.server.statistics()["requests"] == 8
        peer.close()


async def test_what_was_read_of_a_body_comes_in_one_piece() -> None:
    """Cut into slices it would be copied for each of them: many times its size."""
    log: list[Any] = []
    async with serving(table(log, max_body=8 << 20)) as served:
        peer = await served.connect()
        peer.send(post("/digest", BIG) + get("/next"))
        assert (await peer.answer(30)).body == expected(BIG)
        assert (await peer.answer()).body == b"next"
        peer.close()
    sizes = [0, *log[1:]]
    assert max(after - before for before, after in pairwise(sizes)) > 100_000


async def test_byte_by_byte() -> None:
    async with serving(table()) as served:
        peer = await served.connect()
        for byte in chunked("/digest", b"abc", b"d") + get("/next"):
            peer.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await peer.answer()).body == expected(b"abcd")
        assert (await peer.answer()).body == b"next"
        peer.close()


async def test_it_begins_before_its_body_is_there() -> None:
    log: list[Any] = []
    async with serving(table(log)) as served:
        peer = await served.connect()
        peer.send(post("/digest", b"", length=4))
        await wait_until(lambda: log == ["begun"])
        (row,) = [lane.activity() for lane in served.server.connections]
        assert (row["state"], row["path"], row["route"]) == ("body", "/digest", "POST /digest")
        assert served.server.statistics()["in_flight"] == 1
        peer.send(b"ab")
        await wait_until(lambda: log == ["begun", 2])
        peer.send(b"cd")
        assert (await peer.answer()).body == expected(b"abcd")
        peer.close()


async def test_an_endpoint_that_does_not_ask_stops_its_client() -> None:
    go, counts = asyncio.Event(), []
    routes = Routes()

    @routes.post("/slow", stream_body=True, max_body=1 << 30)
    async def slow(request: Request) -> int:
        await go.wait()
        async for piece in request.stream():
            counts.append(len(piece))
        return sum(counts)

    async with serving(routes) as served:
        peer = await served.connect()
        size = 32 << 20
        peer.send(post("/slow", b"", length=size))
        sending = asyncio.create_task(_send(peer, size))
        await wait_until(lambda: any(lane.paused for lane in served.server.connections))
        go.set()
        assert (await peer.answer(60)).body == b"%d" % size
        assert max(counts) < 1 << 20
        await sending
        peer.close()


async def _send(peer: Any, size: int) -> None:
    for _ in range(size >> 20):
        peer.send(b"x" * (1 << 20))
        await peer.writer.drain()


@pytest.mark.parametrize("path", ["/digest", "/unread"])
async def test_a_declared_length_beyond_the_limit_is_refused_before_the_endpoint(
    path: str,
) -> None:
    log: list[Any] = []
    async with serving(table(log, max_body=1000)) as served:
        raw = await served.ask(post(path, b"x" * 500, length=1001))
        assert raw.startswith(b"HTTP/1.1 413 ") and b"Connection: close" in raw
        raw = await served.ask(post(path, b"", "Expect: 100-continue", length=1001))
        assert raw.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in raw
        assert log == []


@pytest.mark.parametrize("end", [True, False])
async def test_a_chunked_body_beyond_the_limit_is_413_where_it_is_read(end: bool) -> None:
    log: list[Any] = []
    async with serving(table(log, max_body=1000)) as served:
        raw = await served.ask(chunked("/digest", b"x" * 900, b"y" * 200, end=end), 20)
        assert raw.startswith(b"HTTP/1.1 413 ") and b"Connection: close" in raw
        assert isinstance(log[-1], HTTPError) and log[-1].status == 413


async def test_a_small_body_in_one_read_has_the_limit_of_its_route_too() -> None:
    async with serving(table(max_body=3)) as served:
        peer = await served.connect()
        peer.send(post("/digest", b"abc"))
        assert (await peer.answer()).body == expected(b"abc")
        peer.send(post("/digest", b"abcd"))
        assert (await peer.answer()).status == 413
        peer.close()


async def test_continue_is_sent_when_the_endpoint_asks() -> None:
    async with serving(table()) as served:
        peer = await served.connect()
        peer.send(post("/digest", b"", "Expect: 100-continue", length=2))
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"ab")
        assert (await peer.answer()).body == expected(b"ab")
        peer.send(post("/unread", b"", "Expect: 100-continue", length=2))
        answer = await peer.answer()
        assert answer.body == b"not looked at" and answer.headers["connection"] == "close"
        assert await peer.rest() == b""
        peer.close()


async def test_a_little_that_is_left_unread_is_skipped_and_a_lot_closes() -> None:
    async with serving(table(max_body=64 << 20)) as served:
        peer = await served.connect()
        peer.send(post("/unread", b"", length=100_000))
        answer = await peer.answer()
        assert answer.status == 200 and "connection" not in answer.headers
        peer.send(b"x" * 100_000 + get("/next"))
        assert (await peer.answer()).body == b"next"
        peer.send(post("/unread", b"x" * 1000, length=32 << 20))
        answer = await peer.answer()
        assert answer.status == 200 and answer.headers["connection"] == "close"
        await _send(peer, 31 << 20)  # who looks only at the end still finds it
        peer.close()


async def test_a_client_that_leaves_in_the_middle_is_told_to_the_endpoint_and_to_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log: list[Any] = []
    async with serving(table(log)) as served:
        for leave in ("close", "write_eof", "abort"):
            peer = await served.connect()
            peer.send(post("/digest", b"ab", length=10))
            await wait_until(lambda: log == ["begun", 2])
            transport: Any = peer.writer.transport
            getattr(transport, leave)()
            await wait_until(lambda: len(log) == 3)
            assert isinstance(log.pop(), ConnectionResetError)
            log.clear()
            peer.close()
        await wait_until(lambda: not served.server.connections)
    assert caplog.records == []


async def test_a_client_that_closes_its_side_behind_its_body_is_answered() -> None:
    go = asyncio.Event()
    routes = Routes()

    @routes.post("/", stream_body=True)
    async def wait(request: Request) -> bytes:
        await go.wait()
        return await request.read()

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(chunked("/", b"all", b" of it"))
        peer.writer.write_eof()
        await wait_until(lambda: any(lane.is_at_end() for lane in served.server.connections))
        go.set()
        assert (await peer.rest()).endswith(b"all of it")
        peer.close()


async def test_a_body_that_is_too_slow_is_408() -> None:
    async with serving(table(), body_timeout=0.2, body_rate=1e6) as served:
        raw = await served.ask(post("/digest", b"ab", length=10), 20)
        assert raw.startswith(b"HTTP/1.1 408 ")


async def test_a_malformed_chunk_is_400() -> None:
    async with serving(table()) as served:
        raw = await served.ask(chunked("/digest", b"ab", end=False) + b"zz\r\n", 20)
        assert raw.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_behind_others_and_before_an_application(parser: str) -> None:
    gates = {name: asyncio.Event() for name in ("slow", "read")}
    routes = table(max_body=8 << 20)

    @routes.get("/slow")
    async def slow(request: Request) -> str:
        await gates["slow"].wait()
        return "slow"

    @routes.post("/gated", stream_body=True, max_body=8 << 20)
    async def gated(request: Request) -> int:
        await gates["read"].wait()
        return len(await request.read())

    async def hosted(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.path} {len(await request.read())}")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", hosted)
    async with serving(routes, app, parser=parser) as served:
        peer = await served.connect()
        peer.send(get("/slow") + post("/gated", BIG) + post("/hosted", b"abc") + get("/more")
                  + chunked("/digest", b"ab") + post("/unread", b"x" * 1000)
                  + post("/digest", b"abc", "Upgrade: h2c", "Connection: Upgrade") + get("/next"))
        gates["slow"].set()
        assert (await peer.answer()).body == b"slow"
        await asyncio.sleep(0.01)
        gates["read"].set()
        for body in (b"%d" % len(BIG), b"/hosted 3", b"/more 0", expected(b"ab"),
                     b"not looked at", expected(b"abc"), b"next"):
            assert (await peer.answer(30)).body == body
        peer.close()


async def test_http_1_0() -> None:
    async with serving(table()) as served:
        for keep in (True, False):
            line = "Connection: keep-alive" if keep else "X: y"
            peer = await served.connect()
            peer.send(post("/digest", b"ab", line, length=4).replace(b"HTTP/1.1", b"HTTP/1.0"))
            await asyncio.sleep(0.01)
            peer.send(b"cd")
            answer = await peer.answer()
            assert answer.body == expected(b"abcd")
            assert answer.headers["connection"] == ("keep-alive" if keep else "close")
            peer.close()


async def test_what_reads_all_of_a_body_reads_it_here_too() -> None:
    async with serving(table(max_body=4 << 20)) as served:
        peer = await served.connect()
        for body in (b"[1]", b"[" + b"1," * 600_000 + b"1]"):
            peer.send(post("/read", body))
            answer = await peer.answer(30)
            assert answer.body.startswith(b"[%d,[1" % len(body))
        peer.close()


async def test_a_body_is_taken_once() -> None:
    begun = asyncio.Event()
    routes = Routes()

    @routes.post("/", stream_body=True)
    async def twice(request: Request) -> str:
        begun.set()
        async for _ in request.stream():
            pass
        with pytest.raises(RuntimeError, match="piece by piece"):
            await request.read()
        return "said"

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(post("/", b"", length=3))
        await begun.wait()
        peer.send(b"abc")
        assert (await peer.answer()).body == b"said"
        peer.close()


async def test_an_answer_may_be_made_of_the_body_while_it_comes() -> None:
    routes = Routes()

    @routes.post("/", stream_body=True)
    async def echo(request: Request) -> Stream:
        async def upper() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece.upper()

        return Stream(upper())

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(chunked("/", b"ab", end=False))
        await peer.reader.readuntil(b"AB\r\n")
        peer.send(b"2\r\ncd\r\n0\r\n\r\n")
        assert (await peer.reader.readuntil(b"0\r\n\r\n")) == b"2\r\nCD\r\n0\r\n\r\n"
        peer.close()
        peer = await served.connect()
        peer.send(chunked("/", b"ab", end=False))
        await peer.reader.readuntil(b"AB\r\n")
        peer.writer.write_eof()  # no end of the body: no end of the answer
        assert b"0\r\n\r\n" not in await peer.rest()
        peer.close()


async def test_middlewares_failures_and_work_after_the_answer_are_as_elsewhere() -> None:
    done: list[str] = []
    routes = table()

    async def later() -> None:
        done.append("later")

    @routes.middleware
    async def around(request: Any, call: Any) -> Any:
        if request.path == "/closed":
            raise HTTPError(401)
        answer = await call(request)
        answer.headers.append(("X-Around", "yes"))
        return answer

    @routes.post("/closed", stream_body=True)
    async def closed(request: Request) -> str:
        return "no"

    @routes.post("/fails", stream_body=True)
    async def fails(request: Request) -> str:
        request.after(later())
        raise KeyError(await request.text())

    async with serving(routes) as served:
        peer = await served.connect()
        for path, status in (("/closed", 401), ("/fails", 500), ("/digest", 200)):
            peer.send(post(path, b"", length=3))
            await asyncio.sleep(0.01)
            peer.send(b"abc")
            answer = await peer.answer()
            assert answer.status == status
        assert answer.headers["x-around"] == "yes" and done == ["later"]
        peer.close()


async def test_a_drain_waits_for_the_body_and_its_answer() -> None:
    log: list[Any] = []
    async with serving(table(log), context=context()) as served:
        peer = await served.connect()
        peer.send(post("/digest", b"ab", length=4))
        await wait_until(lambda: log == ["begun", 2])
        loop = asyncio.get_running_loop()
        draining = asyncio.create_task(served.server.drain(loop.time() + 20))
        await asyncio.sleep(0)
        peer.send(b"cd")
        answer = await peer.answer()
        assert answer.body == expected(b"abcd") and answer.headers["connection"] == "close"
        await asyncio.wait_for(draining, 10)
        peer.close()


async def test_nothing_of_it_is_left_to_the_collector() -> None:
    async with serving(table(max_body=8 << 20)) as served:
        gc.collect()
        gc.disable()
        try:
            peer = await served.connect()
            peer.send(post("/digest", BIG) + chunked("/digest", b"ab") + post("/unread", BIG))
            for _ in range(3):
                assert (await peer.answer(30)).status == 200
            peer.close()
            left = await served.connect()
            left.send(post("/read", b"ab", length=10))
            await wait_until(lambda: served.server.statistics()["in_flight"])
            left.writer.transport.abort()
            await wait_until(lambda: not served.server.connections)
            await wait_until(lambda: not [one for one in gc.get_objects() if type(one) is Upload])
        finally:
            gc.enable()


async def test_cancel_on_disconnect_cancels_it() -> None:
    log: list[Any] = []
    async with serving(table(log), cancel_on_disconnect=True) as served:
        peer = await served.connect()
        peer.send(post("/digest", b"ab", length=10))
        await wait_until(lambda: log == ["begun", 2])
        peer.writer.transport.abort()
        await wait_until(lambda: len(log) == 3)


def test_what_cannot_be_is_refused_where_it_is_declared() -> None:
    routes = Routes()
    with pytest.raises(RouteError, match="stream_body=True: expected an async def"):
        routes.post("/", stream_body=True)(lambda request: None)
    with pytest.raises(RouteError, match="max_body=5: expected stream_body=True"):
        routes.post("/", max_body=5)
    with pytest.raises(RouteError, match="max_body=0: expected bytes, from 1 on"):
        routes.post("/", max_body=0, stream_body=True)


async def test_a_body_that_is_validated_cannot_be_streamed() -> None:
    from dataclasses import dataclass

    @dataclass
    class Order:
        item: str

    async def order(request: Request, body: Any) -> None: ...

    order.__annotations__["body"] = Order
    routes = Routes()
    routes.post("/", stream_body=True)(order)
    with pytest.raises(RouteError, match=r"has not come yet: expected request.stream\(\)"):
        async with serving(routes):
            pass


@pytest.mark.parametrize("how", ["stream", "read", "text", "post", "multipart"])
async def test_what_a_middleware_has_read_is_there_for_the_endpoint(how: str) -> None:
    """One that checks a signature reads all of the body; what came in one read is there anyway."""
    routes = Routes()
    seen: list[bytes] = []

    @routes.middleware
    async def check(request: Request, call: Any) -> Any:
        seen.append(await request.read())
        return await call(request)

    @routes.post("/", stream_body=True)
    async def endpoint(request: Request) -> Any:
        if how == "stream":
            return b"".join([piece async for piece in request.stream()])
        if how == "post":
            return (await request.post())["a"]
        if how == "multipart":
            async for part in request.multipart():
                return await part.read()
        return await (request.read() if how == "read" else request.text())

    body, kind = b"value", "text/plain"
    if how in ("post", "multipart"):
        kind = "multipart/form-data; boundary=b"
        body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n--b--\r\n'
    head = (f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    async with serving(routes) as served:
        for slices in ([head + body], [head + body[:3], body[3:]]):
            peer = await served.connect()
            for data in slices:
                peer.send(data)
                await asyncio.sleep(0.05)
            answer = await peer.answer()
            assert (answer.status, answer.body) == (200, b"value"), answer
            peer.close()
    assert seen == [body, body]


async def test_a_body_that_was_taken_is_not_an_empty_one() -> None:
    routes = Routes()

    @routes.post("/", stream_body=True)
    async def twice(request: Request) -> str:
        async for _ in request.stream():
            pass
        with pytest.raises(RuntimeError, match="piece by piece"):
            request.stream()
        return "said"

    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(post("/", b"", length=3))
        await asyncio.sleep(0.05)
        peer.send(b"abc")
        assert (await peer.answer()).body == b"said"
        peer.close()
