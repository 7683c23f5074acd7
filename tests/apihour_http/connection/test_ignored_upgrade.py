"""Bodies that come with an Upgrade that is ignored, as Java's client and curl --http2 send them."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from ..support import get, serving
from ..test_corpus import everything

LANES = pytest.mark.parametrize("lane", ["direct", "app"])
PARSERS = pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
PATIENCE = 60.0
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
SIZED = b"Content-Length: 5\r\n\r\nabcde"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"

JAVA = """
import java.net.URI;
import java.net.http.*;
public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (String method : new String[] {"POST", "PUT", "POST"})
            for (int size : new int[] {1, 5000, 500000}) {
                HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                    .method(method, HttpRequest.BodyPublishers.ofString("x".repeat(size))).build();
                HttpResponse<String> answer =
                    client.send(request, HttpResponse.BodyHandlers.ofString());
                System.out.println(answer.statusCode() + " " + answer.body().replace(" ", ""));
            }
    }
}
"""


@LANES
@PARSERS
@pytest.mark.parametrize("body", [SIZED, CHUNKED])
async def test_the_body_arrives_however_it_is_cut(lane: str, parser: str, body: bytes) -> None:
    data = b"POST /x HTTP/1.1\r\nHost: t\r\n" + UPGRADE + body
    async with serving(**everything(lane), parser=parser) as served:
        for cut in range(1, len(data) + 1, 3):
            peer = await served.connect()
            peer.send(data[:cut])
            await peer.writer.drain()
            await asyncio.sleep(0)
            peer.send(data[cut:])
            answer = await peer.answer(PATIENCE)
            assert answer.status == 200, cut
            assert answer.body.replace(b" ", b"") == b'{"length":5}'
            peer.close()


@LANES
@PARSERS
@pytest.mark.parametrize("body", [SIZED, CHUNKED, b"Content-Length: 0\r\n\r\n"])
async def test_the_connection_goes_on(lane: str, parser: str, body: bytes) -> None:
    length = b"5" if b"abcde" in body else b"0"
    one = b"POST /x HTTP/1.1\r\nHost: t\r\n" + UPGRADE + body
    async with serving(**everything(lane), parser=parser) as served:
        peer = await served.connect()
        peer.send(get() + (one + get()) * 3)
        lengths = [(await peer.answer(PATIENCE)).body[-2:-1] for _ in range(7)]
        assert lengths == [b"0"] + [length, b"0"] * 3
        peer.send(get("/", "Host: twice"))
        assert (await peer.answer(PATIENCE)).status == 400
        peer.close()


@LANES
@PARSERS
async def test_the_body_is_held_to_the_limits(lane: str, parser: str) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: t\r\n" + UPGRADE
    async with serving(**everything(lane), parser=parser, body_timeout=0.1, max_body=9) as served:
        peer = await served.connect()
        peer.send(head + SIZED[:-1])
        assert (await peer.answer(PATIENCE)).status == 408
        peer.close()
        peer = await served.connect()
        peer.send(head + b"Content-Length: 10\r\n\r\n" + b"x" * 10)
        assert (await peer.answer(PATIENCE)).status == (413 if lane == "direct" else 200)
        peer.close()
        peer = await served.connect()
        peer.send(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert (await peer.answer(PATIENCE)).status == 400
        peer.close()
        peer = await served.connect()
        peer.send(head + b"Expect: 100-continue\r\n" + SIZED[:-5])
        assert (await peer.answer(PATIENCE)).status == 100
        peer.send(SIZED[-5:])
        assert (await peer.answer(PATIENCE)).status == 200
        peer.close()


@LANES
@PARSERS
async def test_a_websocket_asked_for_with_a_body_is_an_upgrade_to_ignore(
    lane: str, parser: str
) -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    async with serving(**everything(lane), parser=parser) as served:
        peer = await served.connect()
        peer.send(head + SIZED + get("/after"))
        assert (await peer.answer(PATIENCE)).body.replace(b" ", b"") == b'{"length":5}'
        assert (await peer.answer(PATIENCE)).body.replace(b" ", b"") == b'{"length":0}'
        peer.close()


@PARSERS
async def test_no_handler_can_accept_it(parser: str) -> None:
    app = web.Application()

    async def accept(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        return websocket

    app.router.add_get("/ws", accept)
    head = get("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")[:-2]
    async with serving(None, app, parser=parser) as served:
        peer = await served.connect()
        peer.send(head + SIZED)
        assert (await peer.answer(PATIENCE)).status == 400  # of aiohttp
        assert not served.server.statistics()["websockets"]
        peer.close()


@LANES
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_that_offers_http2(lane: str) -> None:
    async with serving(**everything(lane)) as served:
        process = await asyncio.create_subprocess_exec(
            "curl", "-s", "--http2", "-d", "abcde", served.url, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "LD_PRELOAD": ""})  # no sanitizer of ours
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0 and output.replace(b" ", b"") == b'{"length":5}'


@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")
@pytest.mark.skipif(shutil.which("javac") is None, reason="java alone compiles nothing")
async def test_the_client_of_java(tmp_path: Path) -> None:
    source = tmp_path / "Client.java"
    source.write_text(JAVA)
    async with (
        serving(**everything("direct")) as direct, serving(**everything("app")) as hosted,
        aiohttp.ClientSession() as session,
    ):
        for served in (direct, hosted):
            process = await asyncio.create_subprocess_exec(
                "java", "-Xint", str(source), served.url + "/", stdout=asyncio.subprocess.PIPE)
            output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
            lines = output.decode().split("\n")
            assert lines == [f'200 {{"length":{size}}}' for size in (1, 5000, 500_000)] * 3 + [""]
            # The server goes on as if nothing had been.
            async with session.post(served.url, data=b"x") as answer:
                assert answer.status == 200
