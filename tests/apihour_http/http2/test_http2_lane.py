"""HTTP/2 by prior knowledge: what endpoints and aiohttp's applications answer on it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from aiohttp import web

from apihour_http import SSE, HTTPError, Response, Routes, Stream
from tests.apihour_http.support import context, serving, wait_until

from .support import PATIENCE, PREFACE, connected, frame, raw

routes = Routes()


@routes.get("/")
def root(request):
    return {"version": request.version, "host": request.host, "scheme": request.scheme,
            "remote": request.remote, "cookie": request.headers.get("Cookie", "")}


@routes.get("/items/{number:int}")
async def item(request):
    return {"number": request.match_info["number"]}


@routes.get("/big")
def big(request):
    return bytes(range(256)) * 8192


@routes.post("/echo")
async def echo(request):
    return await request.read()


@routes.post("/upload", stream_body=True, max_body=1 << 24)
async def upload(request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return {"size": size}


@routes.get("/stream")
def stream(request):
    async def pieces():
        for number in range(3):
            yield f"{number}\n"
    return Stream(pieces())


@routes.get("/known")
def known(request):
    async def pieces():
        yield b"hello"
    return Stream(pieces(), length=5)


@routes.get("/breaks")
def breaks(request):
    async def pieces():
        yield b"hel"
        raise RuntimeError("in the middle")
    return Stream(pieces())


@routes.get("/events")
def events(request):
    async def feed():
        yield {"n": 1}
        await asyncio.sleep(3600)
    return SSE(feed(), goodbye="bye")


@routes.get("/response")
def response(request):
    answer = Response(201, {"X-Made": "yes"}, {"a": 1})
    answer.set_cookie("c", "d")
    return answer


@routes.get("/nothing")
def nothing(request):
    return None


@routes.get("/split")
def split(request):
    answer = Response(200, body="x")
    answer.headers.append(("X-Bad", "a\r\nb: c"))
    return answer


@routes.get("/gone")
def gone(request):
    raise HTTPError(410, "not here any more")


@routes.get("/wait")
async def wait(request):
    await asyncio.sleep(3600)


def application():
    async def hello(request):
        body = await request.read()
        return web.json_response({"size": len(body), "path": request.path_qs,
                                  "host": request.host})

    async def chunks(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(3):
            await answer.write(b"piece\n")
        await answer.write_eof()
        return answer

    async def file(request):
        return web.FileResponse(__file__)

    async def fails(request):
        raise RuntimeError("of the application")

    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/app", hello)
    app.router.add_get("/app/chunks", chunks)
    app.router.add_get("/app/fails", fails)
    app.router.add_get("/app/file", file)
    return app


async def test_an_endpoint_answers():
    async with serving(routes) as served, connected(served) as client:
        reply = await client.get("/", (b"cookie", b"a=1"), (b"cookie", b"b=2"))
        assert reply.status == 200
        assert reply.body == (
            b'{"version":[2,0],"host":"127.0.0.1:%d","scheme":"http",'
            b'"remote":"127.0.0.1","cookie":"a=1; b=2"}' % served.port)
        assert reply.fields[b"content-type"] == b"application/json"
        assert int(reply.fields[b"content-length"]) == len(reply.body)
        assert b"GMT" in reply.fields[b"date"]
        assert (await client.get("/items/7")).body == b'{"number":7}'
        assert (await client.get("/items/x")).status == 404
        assert served.server.statistics()["responses"]["4xx"] == 1


async def test_many_streams_at_once_and_a_big_answer():
    async with serving(routes) as served, connected(served) as client:
        numbers = [client.ask(path="/big" if n % 10 == 0 else f"/items/{n}") for n in range(60)]
        for n, number in enumerate(numbers):
            reply = await client.reply(number)
            expected = bytes(range(256)) * 8192 if n % 10 == 0 else b'{"number":%d}' % n
            assert reply.body == expected
        assert served.server.statistics()["requests"] == 60
        await wait_until(lambda: served.server.statistics()["in_flight"] == 0)


@pytest.mark.parametrize("size", [0, 5, 70_000, 900_000])
async def test_a_body_comes_back(size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with serving(routes) as served, connected(served) as client:
        assert await sent(client, "/echo", body) == (200, body)
        assert await sent(client, "/upload", body) == (200, b'{"size":%d}' % size)


async def sent(client, path, body):
    """Send a body at the pace of the server's windows; the answer."""
    number = client.ask("POST", path, ends=False)
    while body:
        room = min(client.h2.local_flow_control_window(number), 16384, len(body))
        if room:
            client.h2.send_data(number, body[:room])
            body = body[room:]
            client.flush()
        else:
            await client.read()
    client.h2.end_stream(number)
    client.flush()
    reply = await client.reply(number)
    return reply.status, reply.body


async def test_a_body_over_the_limit():
    async with serving(routes, max_body=1000) as served, connected(served) as client:
        reply = await client.get("/echo", (b"content-length", b"2000"), method="POST",
                                 body=bytes(2000))
        assert reply.status == 413
        number = client.ask("POST", "/echo", body=bytes(2000))  # its length is not told
        reply = await client.reply(number)
        assert reply.status == 413
        assert (await client.get("/")).status == 200  # the others are not concerned


async def test_what_is_made_while_it_is_sent():
    async with serving(routes) as served, connected(served) as client:
        reply = await client.get("/stream")
        assert (reply.status, reply.body) == (200, b"0\n1\n2\n")
        assert b"transfer-encoding" not in reply.fields
        reply = await client.get("/known")
        assert (reply.fields[b"content-length"], reply.body) == (b"5", b"hello")
        reply = await client.get("/breaks")
        assert (reply.status, reply.body, reply.reset) == (200, b"hel", 2)


async def test_answers_of_every_kind():
    async with serving(routes) as served, connected(served) as client:
        reply = await client.get("/response")
        assert (reply.status, reply.body) == (201, b'{"a":1}')
        assert reply.fields[b"x-made"] == b"yes"
        assert reply.fields[b"set-cookie"].startswith(b"c=d")
        reply = await client.get("/nothing")
        assert (reply.status, reply.body) == (204, b"")
        assert b"content-length" not in reply.fields
        reply = await client.get("/response", method="HEAD")
        assert (reply.status, reply.body) == (201, b"")
        assert reply.fields[b"content-length"] == b"7"
        assert (await client.get("/gone")).status == 410
        assert (await client.get("/echo")).status == 405
        assert (await client.get("/split")).status == 500
        assert (await client.get("*", method="OPTIONS")).status == 204


async def test_an_answer_before_the_whole_request():
    async with serving(routes) as served, connected(served) as client:
        number = client.ask("POST", "/echo", (b"content-length", b"99999999"), ends=False)
        reply = await client.reply(number)
        assert (reply.status, reply.ended) == (413, True)
        await client.until(lambda: reply.reset == 0)  # RFC 9113 8.1: NO_ERROR
        assert (await client.get("/")).status == 200


async def test_expect_is_answered_when_the_body_is_wanted():
    async with serving(routes, application()) as served, connected(served) as client:
        for path in ("/echo", "/upload", "/app"):
            number = client.ask("POST", path, (b"expect", b"100-continue"), ends=False)
            reply = client.replies[number]
            await client.until(lambda reply=reply: reply.interim)
            client.h2.send_data(number, b"hello", end_stream=True)
            client.flush()
            assert (await client.reply(number)).status == 200
        reply = await client.get("/echo", (b"expect", b"x"), method="POST", body=b"y")
        assert reply.status == 417


async def test_an_application_of_aiohttp():
    async with serving(routes, application()) as served, connected(served) as client:
        reply = await client.get("/app?a=b")
        assert reply.body == b'{"size": 0, "path": "/app?a=b", "host": "127.0.0.1:%d"}' % (
            served.port)
        status, body = await sent(client, "/app", bytes(300_000))
        assert (status, body[:15]) == (200, b'{"size": 300000')
        assert (await client.get("/app/chunks")).body == b"piece\n" * 3
        assert (await client.get("/app/fails")).status == 500
        assert (await client.get("/app/file")).body == Path(__file__).read_bytes()
        assert (await client.get("/app", method="HEAD")).body == b""
        assert (await client.get("/app")).status == 200


async def test_head_and_trailers_of_a_request():
    async with serving(routes) as served, connected(served) as client:
        number = client.ask("POST", "/echo", ends=False)
        client.h2.send_data(number, b"hello")
        client.h2.send_headers(number, [(b"x-sum", b"5")], end_stream=True)
        client.flush()
        assert (await client.reply(number)).body == b"hello"


async def test_a_client_that_resets():
    async with serving(routes, cancel_on_disconnect=True) as served:
        async with connected(served) as client:
            number = client.ask(path="/wait")
            await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
            client.reset(number)
            await wait_until(lambda: served.server.statistics()["in_flight"] == 0)
            assert (await client.get("/")).status == 200
            client.ask(path="/wait")
            await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
        await wait_until(lambda: not served.server.connections)


async def test_http_1_is_spoken_on_the_same_port():
    async with serving(routes) as served:
        answer = await served.ask(b"GET /items/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_the_preface_is_found_however_it_is_cut(parser):
    async with serving(routes, parser=parser) as served:
        for cut in range(1, len(PREFACE) + 3):
            async with raw(served, settle=False) as peer:
                data = PREFACE + frame(4, 0, 0)
                peer.send(data[:cut])
                await asyncio.sleep(0.002)
                peer.send(data[cut:])
                frames = await peer.frames(until=8)
                assert [kind for kind, *_ in frames] == [4, 8], cut


async def test_a_preface_behind_a_request_is_refused():
    async with serving(routes) as served:
        peer = await served.connect()
        peer.send(b"GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.answer()
        peer.send(PREFACE)
        assert b" 400 " in await peer.rest()
        peer.close()


async def test_http2_can_be_left_out(monkeypatch, caplog):
    async with serving(routes, http2=False) as served:
        assert served.server.alpn == ("http/1.1",)
        assert b" 400 " in await served.ask(PREFACE)
    monkeypatch.setattr("apihour_http.http2.speaker.is_installed", lambda: False)
    monkeypatch.setattr("apihour_http.server.is_installed", lambda: False)
    async with serving(routes) as served:
        assert served.server.alpn == ("http/1.1",)
        for _ in range(2):
            assert b" 400 " in await served.ask(PREFACE)
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "HTTP/2" in text] == [
        "a client speaks HTTP/2. HTTP/2 needs hpack, which cannot be imported: "
        "pip install 'apihour[http2]'"]
    with pytest.raises(ImportError, match=r"http2=True: HTTP/2 needs hpack.*apihour\[http2\]"):
        async with serving(routes, http2=True):
            pass


async def test_it_is_logged_and_shown():
    records = []
    logger = logging.getLogger("test.http2.access")
    logger.propagate = False
    logger.setLevel("INFO")
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    told = context(access_log=logger)
    async with serving(routes, application(), told) as served, connected(served) as client:
        for path in ("/items/1", "/stream", "/app", "/nope"):
            await client.get(path)
        client.ask(path="/wait")
        await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
        (connection,) = served.server.connections
        activity = connection.activity()
        assert (activity["state"], activity["path"], activity["route"]) == (
            "request", "/wait", "GET /wait")
        await wait_until(lambda: "".join(records).count("HTTP/2.0") == 4, PATIENCE)
    assert '"GET /items/1 HTTP/2.0" 200 12' in "".join(records)


async def test_who_a_proxy_speaks_for():
    told = context(forwarded_allow_ips="127.0.0.1")
    async with serving(routes, context=told) as served, connected(served) as client:
        reply = await client.get("/", (b"x-forwarded-for", b"192.0.2.7"),
                                 (b"x-forwarded-proto", b"https"))
        assert b'"remote":"192.0.2.7"' in reply.body
        assert b'"scheme":"https"' in reply.body
