"""HTTP on both lanes, ASGI and TCP, each saying what it knows of TLS."""

import asyncio
import os

from aiohttp import web
from version import VERSION

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"version": VERSION, "scheme": request.scheme, "secure": request.secure,
            "peer": bool(request.transport.get_extra_info("peercert"))}


@routes.post("/upload")
async def upload(request):
    return {"size": len(await request.read())}


async def application_index(request):
    return web.json_response({"scheme": request.scheme, "secure": request.secure,
                              "url": str(request.url)})


async def file(request):
    return web.FileResponse("ballast")


async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"{request.scheme} {message.data}")
    return socket


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{scope['scheme']} {message['text']}"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Container(apihour.Container):
    binds = {name: "127.0.0.1:0?tls" for name in ("http", "asgi", "echo")}

    @classmethod
    def make_event_loop(cls, config):
        if os.environ.get("LOOP") == "asyncio":
            return asyncio.new_event_loop()
        return super().make_event_loop(config)

    def make_servers(self):
        application = web.Application()
        application.router.add_get("/app", application_index)
        application.router.add_get("/file", file)
        application.router.add_get("/ws", websocket)
        return {"http": HTTPServer(routes, app=application, max_body=1000), "asgi": asgi,
                "echo": echo}
