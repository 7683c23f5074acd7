"""Handlers that answer without reading the body: the answer arrives, and so does what follows."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import tempfile
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from .support import Peer, Served, get, serving, wait_until

PARSERS = pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
PATIENCE = 30.0
MIB = 1 << 20


def make_app() -> web.Application:
    app = web.Application(client_max_size=1000)

    async def ignore(request: web.Request) -> web.Response:
        return web.Response(text="ignored")

    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def refuse_expectation(request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    app.router.add_route("*", "/ignore", ignore)
    app.router.add_post("/read", read)
    app.router.add_post("/no", ignore, expect_handler=refuse_expectation)
    return app


def post(path: str, size: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: t", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode()


@PARSERS
@pytest.mark.parametrize("size", [1, 20_000, 100_000, 900_000])
async def test_the_next_request_on_the_connection_is_answered(parser: str, size: int) -> None:
    async with serving(None, make_app(), parser=parser) as served:
        peer = await served.connect()
        for _ in range(5):
            # The answer comes before the body does, and says nothing of an end.
            peer.send(post("/ignore", size))
            answer = await peer.answer(PATIENCE)
            assert answer.body == b"ignored" and "connection" not in answer.headers
            peer.send(b"x" * size + get("/ignore"))
            assert (await peer.answer(PATIENCE)).body == b"ignored"
        assert len(served.server.connections) == 1
        peer.close()


@PARSERS
async def test_a_body_that_comes_with_its_head_and_the_next_request(parser: str) -> None:
    async with serving(None, make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send((post("/ignore", 300_000) + b"x" * 300_000 + get("/ignore")) * 3)
        for _ in range(6):
            assert (await peer.answer(PATIENCE)).body == b"ignored"
        peer.close()


@PARSERS
async def test_more_than_is_worth_it_is_announced_and_read_all_the_same(parser: str) -> None:
    async with serving(None, make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send(post("/ignore", 20 * MIB))
        answer = await peer.answer(PATIENCE)
        assert answer.body == b"ignored" and answer.headers["connection"] == "close"
        for _ in range(20):
            peer.send(b"x" * MIB)
            await asyncio.wait_for(peer.writer.drain(), PATIENCE)
        peer.close()
        await wait_until(lambda: not served.server.connections, PATIENCE)


@PARSERS
async def test_a_chunked_body_under_way_is_announced(parser: str) -> None:
    """Nobody knows how much of it is to come."""
    async with serving(None, make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send(b"POST /ignore HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
                  b"5\r\nabcde\r\n")
        answer = await peer.answer(PATIENCE)
        assert answer.body == b"ignored" and answer.headers["connection"] == "close"
        peer.send(b"0\r\n\r\n")
        assert await peer.rest(PATIENCE) == b""
        peer.close()


async def test_what_never_comes_ends_the_connection_without_a_second_answer() -> None:
    async with serving(None, make_app(), body_timeout=0.05, body_rate=10_000.0) as served:
        peer = await served.connect()
        peer.send(post("/ignore", 1000))
        assert (await peer.answer(PATIENCE)).body == b"ignored"
        assert await peer.rest(PATIENCE) == b""
        peer.close()


async def test_input_without_end_is_cut() -> None:
    async with serving(None, make_app()) as served:
        peer = await served.connect()
        peer.send(post("/ignore", 1 << 40))
        assert (await peer.answer(PATIENCE)).headers["connection"] == "close"
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 200 * MIB:
                peer.send(b"x" * MIB)
                sent += MIB
                await asyncio.wait_for(peer.writer.drain(), PATIENCE)
        peer.close()
        await wait_until(lambda: not served.server.connections, PATIENCE)


@PARSERS
async def test_a_client_told_no_instead_of_100_is_told_that_it_is_the_end(parser: str) -> None:
    """It may send its body or not: a next request could be taken for it."""
    async with serving(None, make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send(post("/no", 10, "Expect: 100-continue"))
        answer = await peer.answer(PATIENCE)
        assert answer.status == 403 and answer.headers["connection"] == "close"
        peer.close()
        peer = await served.connect()
        peer.send(post("/ignore", 10, "Expect: 100-continue"))
        assert (await peer.answer(PATIENCE)).status == 100
        answer = await peer.answer(PATIENCE)
        assert answer.status == 200 and "connection" not in answer.headers
        peer.send(b"x" * 10 + get("/ignore"))
        assert (await peer.answer(PATIENCE)).body == b"ignored"
        peer.close()


@PARSERS
async def test_a_body_broken_after_its_answer_only_ends_the_connection(parser: str) -> None:
    async with serving(None, make_app(), parser=parser) as served:
        peer = await served.connect()
        peer.send(post("/ignore", 100))
        await peer.answer(PATIENCE)
        peer.send(b"x" * 100 + b"GARBAGE\x00\r\n\r\n")
        assert (await peer.answer(PATIENCE)).status == 400
        assert await peer.rest(PATIENCE) == b""
        peer.close()


async def curl(served: Served, path: str, size: int, *options: str) -> tuple[int, str]:
    """Exit status of curl, and what the server answered to two posts on one connection."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        url = served.url + path
        process = await asyncio.create_subprocess_exec(
            "curl", "-s", "-w", "%{http_code} ", "-o", "/dev/null", *options,
            "--data-binary", f"@{file.name}", url, "-o", "/dev/null", url,
            stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
        assert process.returncode is not None
        return process.returncode, output.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("options", [(), ("-H", "Expect:"), ("-H", "Transfer-Encoding: chunked")])
@pytest.mark.parametrize("path, status", [("/ignore", "200 200 "), ("/read", "413 413 ")])
async def test_curl_posts_five_megabytes(
    options: tuple[str, ...], path: str, status: str
) -> None:
    async with serving(None, make_app()) as served:
        assert await curl(served, path, 5_000_000, *options) == (0, status)


def http_client(port: int, size: int) -> list[int]:
    """Posts by the standard library, which looks for the answer when everything is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    statuses = []
    for _ in range(5):
        connection.request("POST", "/ignore", body=b"x" * size)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


@pytest.mark.parametrize("size", [20_000, 100_000, 5_000_000])
async def test_clients_that_keep_their_connections_lose_nothing(size: int) -> None:
    async with serving(None, make_app()) as served, aiohttp.ClientSession() as session:
        assert await asyncio.to_thread(http_client, served.port, size) == [200] * 5

        async def one() -> int:
            async with session.post(served.url + "/ignore", data=b"x" * size) as answer:
                await answer.read()
                return answer.status

        for _ in range(5):
            assert await asyncio.gather(one(), one()) == [200, 200]


async def test_a_refusal_by_size_reaches_a_client_that_sends_all() -> None:
    from apihour_http import Request, Routes

    routes = Routes()

    @routes.post("/ignore")
    async def upload(request: Request) -> Any:
        return len(request.body)

    async with serving(routes) as served:
        assert await asyncio.to_thread(http_client, served.port, 20_000) == [200] * 5
        assert await asyncio.to_thread(http_client, served.port, 30 * MIB) == [413] * 5
        peer: Peer = await served.connect()
        peer.send(post("/ignore", 30 * MIB))
        assert (await peer.answer(PATIENCE)).headers["connection"] == "close"
        peer.close()
