"""Who asks, as each lane has it."""

import asyncio
import json
import os

from aiohttp import web

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/who")
async def who(request):
    return {"remote": request.remote, "scheme": request.scheme, "pid": os.getpid()}


@routes.get("/hold")
async def hold(request):
    await asyncio.Event().wait()


async def hosted(request):
    return web.json_response({"remote": request.remote, "scheme": request.scheme})


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        body = json.dumps({"remote": scope["client"] and scope["client"][0],
                           "scheme": scope["scheme"]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "asgi": "127.0.0.1:0", "local": "unix:local.sock"}

    def make_servers(self):
        app = web.Application()
        app.router.add_get("/hosted", hosted)
        return {"http": HTTPServer(routes, app, cancel_on_disconnect=True), "asgi": asgi,
                "local": HTTPServer(routes, forwarded_allow_ips="unix")}
