"""HTTP by routes and by an aiohttp application, WebSockets, TCP and UDP in one container."""

import asyncio
import os
import time

from aiohttp import web
from version import VERSION

import apihour
from apihour_http import HTTPServer, Response, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"pid": os.getpid(), "version": VERSION}


@routes.get("/slow")
async def slow(request):
    await asyncio.sleep(0.05)
    return {"pid": os.getpid()}


@routes.get("/fail")
async def fail(request):
    return Response(500)


@routes.get("/block/{seconds}")
async def block(request):
    time.sleep(float(request.match_info["seconds"]))  # noqa: ASYNC251
    return {"pid": os.getpid()}


@routes.get("/stuck/{seconds}")
def stuck(request):
    time.sleep(float(request.match_info["seconds"]))
    return {"pid": os.getpid()}


@routes.get("/spin/{seconds}")
async def spin(request):
    until = time.process_time() + float(request.match_info["seconds"])
    while time.process_time() < until:
        pass
    return {"pid": os.getpid()}


@routes.get("/fill/{megabytes}")
async def fill(request):
    request.container.engines["ballast"] = os.urandom(int(request.match_info["megabytes"]) << 20)
    return {"pid": os.getpid()}


async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def stream(request):
    """Ten pieces of a tenth of ``seconds`` each."""
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(10):
        await response.write(b"%d\n" % number)
        await asyncio.sleep(float(request.query.get("seconds", "1")) / 10)
    return response


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Polite(Echo):
    """Says goodbye when its worker retires, and leaves a moment later."""

    def on_drain(self):
        self.transport.write(b"goodbye\n")
        asyncio.get_running_loop().call_later(0.2, self.transport.close)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data.upper(), address)


class Container(apihour.Container):
    binds = {
        "http": "127.0.0.1:0", "echo": "127.0.0.1:0", "polite": "127.0.0.1:0",
        "udp": "udp://127.0.0.1:0",
    }

    def make_servers(self):
        application = web.Application()
        application.router.add_get("/ws", websocket)
        application.router.add_get("/stream", stream)
        return {"http": HTTPServer(routes, app=application), "echo": Echo, "polite": Polite,
                "udp": Datagrams}
