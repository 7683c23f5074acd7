"""apihour: the direct lane with ``async def`` and with ``def``, and an aiohttp application."""

from __future__ import annotations

from typing import Any

from common import LARGE, MESSAGE, RESOURCES, TEXT, User, welcome

import apihour
from apihour_http import HTTPServer, Request, Routes

routes = Routes()
inline = Routes()


@routes.get("/json")
async def hello(request: Request) -> dict[str, str]:
    return MESSAGE


@routes.get("/plaintext")
async def plaintext(request: Request) -> str:
    return TEXT


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


@inline.get("/plaintext")
def plaintext_inline(request: Request) -> str:
    return TEXT


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
        return {"http": HTTPServer(routes)}


class Inline(Container):
    def make_servers(self) -> dict[str, Any]:
        return {"http": HTTPServer(inline)}


class Hosted(Container):
    """The unmodified application of ``aiohttp_app.py``."""

    def make_servers(self) -> dict[str, Any]:
        from aiohttp_app import make_application

        return {"http": HTTPServer(app=make_application())}
