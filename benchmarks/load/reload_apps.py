"""The same three handlers for every server of ``reload.py``: at once, after 50 ms, WebSocket.

``Container`` is apihour's, ``make_application`` an aiohttp application for gunicorn, ``asgi``
an ASGI application for uvicorn and granian. ``BURN`` in the environment makes the import cost
that many seconds of CPU.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from aiohttp import web

BODY = b'{"hello": "world"}'
SLOW = 0.05  # seconds
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


def burn(seconds: float) -> None:
    """Use that much CPU time, as the import of a large application does."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))


burn(float(os.environ.get("BURN", "0")))


async def index(request: web.Request) -> web.Response:
    return web.Response(body=BODY, content_type="application/json")


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(SLOW)
    return web.Response(body=BODY, content_type="application/json")


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def make_application() -> web.Application:
    application = web.Application()
    application.router.add_get("/", index)
    application.router.add_get("/slow", slow)
    application.router.add_get("/ws", websocket)
    return application


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        if scope["path"] == "/slow":
            await asyncio.sleep(SLOW)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


try:
    import apihour
except ImportError:  # a peer's environment: what follows is apihour's own
    pass
else:
    from apihour_http import HTTPServer, Response, Routes

    routes = Routes()
    JSON = {"Content-Type": "application/json"}

    @routes.get("/")
    async def route_index(request: Any) -> Response:
        return Response(200, JSON, BODY)

    @routes.get("/slow")
    async def route_slow(request: Any) -> Response:
        await asyncio.sleep(SLOW)
        return Response(200, JSON, BODY)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    class Container(apihour.Container):
        """Routes on the direct lane, WebSockets by aiohttp, raw TCP."""

        binds = {"http": "127.0.0.1:0", "echo": "127.0.0.1:0"}

        def make_servers(self) -> dict[str, Any]:
            application = web.Application()
            application.router.add_get("/ws", websocket)
            return {"http": HTTPServer(routes, app=application), "echo": Echo}

    class Aiohttp(Container):
        """The very application that gunicorn serves."""

        async def make_servers(self) -> dict[str, Any]:
            return {"http": await make_application(), "echo": Echo}

    class Asgi(Container):
        """The very application that uvicorn and granian serve."""

        def make_servers(self) -> dict[str, Any]:
            return {"http": asgi, "echo": Echo}
