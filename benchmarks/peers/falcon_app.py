"""Falcon's ASGI application, for uvicorn."""

from __future__ import annotations

from typing import Any

import falcon.asgi
import falcon.media
import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError


class Hello:
    async def on_get(self, request: Any, response: Any) -> None:
        response.media = MESSAGE


class Text:
    def __init__(self, text: str) -> None:
        self.text = text

    async def on_get(self, request: Any, response: Any) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.text = self.text


class Users:
    async def on_post(self, request: Any, response: Any) -> None:
        try:
            user = decode_user(await request.stream.read())
        except ValidationError as error:
            raise falcon.HTTPUnprocessableEntity(description=str(error)) from None
        response.media = welcome(user)


class Item:
    async def on_get(self, request: Any, response: Any, id: int, item: str) -> None:
        response.media = {"id": id, "item": item}


app = falcon.asgi.App()
app.resp_options.media_handlers[falcon.MEDIA_JSON] = falcon.media.JSONHandler(
    dumps=orjson.dumps, loads=orjson.loads)
app.add_route("/json", Hello())
app.add_route("/large", Text(LARGE))
app.add_route("/users", Users())
for name in RESOURCES:
    app.add_route(f"/{name}/{{id:int}}/items/{{item}}", Item())
