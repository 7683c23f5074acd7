"""BlackSheep, for uvicorn."""

from __future__ import annotations

import orjson
from blacksheep import Application, Content, Request, Response
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError

app = Application()


def as_json(data: object, status: int = 200) -> Response:
    return Response(status, None, Content(b"application/json", orjson.dumps(data)))


def as_text(text: str) -> Response:
    return Response(200, None, Content(b"text/plain; charset=utf-8", text.encode()))


async def hello(request: Request) -> Response:
    return as_json(MESSAGE)


async def large(request: Request) -> Response:
    return as_text(LARGE)


async def create(request: Request) -> Response:
    try:
        user = decode_user(await request.read() or b"")
    except ValidationError as error:
        return as_json({"detail": str(error)}, 422)
    return as_json(welcome(user))


async def item(request: Request) -> Response:
    found = request.route_values or {}
    return as_json({"id": int(found["id"]), "item": found["item"]})


app.router.add_get("/json", hello)
app.router.add_get("/large", large)
app.router.add_post("/users", create)
for name in RESOURCES:
    app.router.add_get(f"/{name}/{{int:id}}/items/{{item}}", item)
