"""ASGI and WSGI applications on HTTP/2: what their scopes say, bodies both ways, and trailers."""

from __future__ import annotations

import asyncio

from apihour_wsgi import WSGIServer

from tests.apihour_asgi.support import served
from tests.apihour_http.http2.support import connected
from tests.apihour_http.support import wait_until


async def test_the_scope_and_the_body():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 201,
                    "headers": [(b"x-made", b"yes"), (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})

    async with served(app) as s, connected(s) as client:
        for path in ("/a%20b?c=d", "/second"):
            reply = await client.get(path, (b"x-sent", b"1"), method="POST", body=b"hello you")
            assert (reply.status, reply.body) == (201, b"hello you")
            assert reply.fields[b"x-made"] == b"yes"
            assert b"connection" not in reply.fields
        scope = scopes[0]
        assert (scope["http_version"], scope["path"], scope["query_string"], scope["scheme"]) == (
            "2", "/a b", b"c=d", "http")
        assert scope["headers"][0] == (b"host", client.authority)
        assert (b"x-sent", b"1") in scope["headers"]
        assert scope["client"][0] == "127.0.0.1"
        assert scopes[1]["path"] == "/second"
        assert scopes[1]["headers"] == scope["headers"]
        assert scopes[1]["headers"] is not scope["headers"]


async def test_trailers():
    async def app(scope, receive, send):
        trailers = "http.response.trailers" in scope.get("extensions", {})
        await send({"type": "http.response.start", "status": 200, "headers": [],
                    "trailers": trailers})
        await send({"type": "http.response.body", "body": b"body"})
        if trailers:
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")]})

    async with served(app) as s, connected(s) as client:
        reply = await client.get("/", (b"te", b"trailers"))
        assert (reply.body, reply.trailers) == (b"body", [(b"x-sum", b"4")])
        reply = await client.get("/")
        assert (reply.body, reply.trailers) == (b"body", None)


async def test_a_client_that_resets_is_told_as_gone():
    messages = []

    async def app(scope, receive, send):
        await receive()
        messages.append((await receive())["type"])

    async with served(app) as s, connected(s) as client:
        number = client.ask()
        await wait_until(lambda: s.record["tasks"] == 1, 30)
        client.reset(number)
        await wait_until(lambda: messages == ["http.disconnect"], 30)


async def test_an_answer_waits_for_its_client():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body", "body": b""})

    async with served(app) as s, connected(s, acknowledges=False) as client:
        number = client.ask()
        reply = client.replies[number]
        await client.until(lambda: len(reply.body) == 65535)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(sent) < 5
        client.acknowledges = True
        client.h2.increment_flow_control_window(1 << 24)
        client.h2.increment_flow_control_window(1 << 24, number)
        client.flush()
        assert len((await client.reply(number)).body) == 6553600


async def test_one_that_fails():
    async def app(scope, receive, send):
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise RuntimeError("of the application")

    async with served(app) as s, connected(s) as client:
        assert (await client.get("/")).status == 500
        reply = await client.get("/late")
        assert (reply.status, reply.body, reply.reset) == (200, b"a", 2)


async def test_wsgi():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["SERVER_PROTOCOL"].encode(), environ["wsgi.input"].read()]

    server = WSGIServer(app)
    assert server.alpn == ("h2", "http/1.1")
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    s = type("Served", (), {"port": listener.sockets[0].getsockname()[1]})
    try:
        async with connected(s) as client:
            reply = await client.get("/", method="POST", body=b" hello")
            assert reply.body == b"HTTP/2 hello"
    finally:
        listener.close()
        await server.stop()
