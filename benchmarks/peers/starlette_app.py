"""Starlette, for uvicorn."""

from __future__ import annotations

import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


class JSON(Response):
    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return orjson.dumps(content)


async def hello(request: Request) -> Response:
    return JSON(MESSAGE)


async def large(request: Request) -> Response:
    return PlainTextResponse(LARGE)


async def create(request: Request) -> Response:
    try:
        user = decode_user(await request.body())
    except ValidationError as error:
        return JSON({"detail": str(error)}, status_code=422)
    return JSON(welcome(user))


async def item(request: Request) -> Response:
    return JSON({"id": request.path_params["id"], "item": request.path_params["item"]})


app = Starlette(routes=[
    Route("/json", hello), Route("/large", large),
    Route("/users", create, methods=["POST"]),
    *(Route(f"/{name}/{{id:int}}/items/{{item}}", item) for name in RESOURCES),
])
