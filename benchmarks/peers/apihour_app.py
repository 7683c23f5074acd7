"""apihour: endpoints by ``async def`` and by ``def``, hosted applications, and a raw protocol.

``PARSER`` in the environment chooses the parser of HTTP.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

from common import LARGE, MESSAGE, RESOURCES, User, welcome

import apihour
from apihour_http import HTTPServer, Request, Routes

PARSER = os.environ.get("PARSER", "auto")
routes = Routes()
inline = Routes()


@routes.get("/json")
async def hello(request: Request) -> dict[str, str]:
    return MESSAGE


@routes.get("/large")
async def large(request: Request) -> str:
    return LARGE


@routes.post("/users")
async def create(request: Request, user: User) -> dict[str, object]:
    return welcome(user)


async def item(request: Request) -> dict[str, object]:
    found = request.match_info
    return {"id": found["id"], "item": found["item"]}


@inline.get("/json")
def hello_inline(request: Request) -> dict[str, str]:
    return MESSAGE


@inline.get("/large")
def large_inline(request: Request) -> str:
    return LARGE


@inline.post("/users")
def create_inline(request: Request, user: User) -> dict[str, object]:
    return welcome(user)


def item_inline(request: Request) -> dict[str, object]:
    found = request.match_info
    return {"id": found["id"], "item": found["item"]}


for name in RESOURCES:
    routes.get(f"/{name}/{{id:int}}/items/{{item}}")(item)
    inline.get(f"/{name}/{{id:int}}/items/{{item}}")(item_inline)


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {"http": HTTPServer(routes, parser=PARSER)}


class Inline(Container):
    def make_servers(self) -> dict[str, Any]:
        return {"http": HTTPServer(inline, parser=PARSER)}


class HostedAiohttp(Container):
    """The unmodified application of ``aiohttp_app.py``."""

    def make_servers(self) -> dict[str, Any]:
        from aiohttp_app import make_application

        return {"http": HTTPServer(app=make_application(), parser=PARSER)}


class HostedStarlette(Container):
    """The unmodified application of ``starlette_app.py``."""

    def make_servers(self) -> dict[str, Any]:
        from starlette_app import app

        from apihour_asgi import ASGIServer

        return {"http": ASGIServer(app, parser=PARSER)}


class HostedFlask(Container):
    """The unmodified application of ``flask_app.py``, in as many threads as gunicorn gives it."""

    def make_servers(self) -> dict[str, Any]:
        from apihour_wsgi import WSGIServer
        from flask_app import app

        return {"http": WSGIServer(app, threads=64, parser=PARSER)}


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Raw(Container):
    """What an accepted connection costs, without HTTP."""

    def make_servers(self) -> dict[str, Any]:
        return {"http": Echo}
