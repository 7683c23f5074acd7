"""aiohttp: an Application for gunicorn's worker or apihour, and the low-level web.Server.

``python aiohttp_app.py PORT`` runs the Server; ``gunicorn aiohttp_app:make`` the Application.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop
from aiohttp import web
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError


def as_json(data: object) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")


async def hello(request: web.BaseRequest) -> web.Response:
    return as_json(MESSAGE)


async def large(request: web.BaseRequest) -> web.Response:
    return web.Response(text=LARGE)


async def create(request: web.BaseRequest) -> web.Response:
    try:
        user = decode_user(await request.read())
    except ValidationError as error:
        return web.json_response({"detail": str(error)}, status=422)
    return as_json(welcome(user))


async def item(request: web.Request) -> web.Response:
    found = request.match_info
    return as_json({"id": int(found["id"]), "item": found["item"]})


def make_application() -> web.Application:
    application = web.Application()
    router = application.router
    router.add_get("/json", hello)
    router.add_get("/large", large)
    router.add_post("/users", create)
    for name in RESOURCES:
        router.add_get(f"/{name}/{{id:[0-9]+}}/items/{{item}}", item)
    return application


async def make() -> web.Application:
    return make_application()


HANDLERS = {
    ("GET", "/json"): hello, ("GET", "/large"): large,
    ("POST", "/users"): create,
}


async def low(request: web.BaseRequest) -> web.StreamResponse:
    handler = HANDLERS.get((request.method, request.path))
    return await handler(request) if handler else web.Response(status=404)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        web.Server(low, access_log=None), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
