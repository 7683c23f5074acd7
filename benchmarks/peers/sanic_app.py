"""Sanic on its own server: ``python sanic_app.py PORT``."""

from __future__ import annotations

import sys

import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError
from sanic import HTTPResponse, Request, Sanic
from sanic.response import json, text

app = Sanic("bench", dumps=orjson.dumps)


@app.get("/json")
async def hello(request: Request) -> HTTPResponse:
    return json(MESSAGE)


@app.get("/large")
async def large(request: Request) -> HTTPResponse:
    return text(LARGE)


@app.post("/users")
async def create(request: Request) -> HTTPResponse:
    try:
        user = decode_user(request.body)
    except ValidationError as error:
        return json({"detail": str(error)}, 422)
    return json(welcome(user))


async def item(request: Request, id: int, item: str) -> HTTPResponse:
    return json({"id": id, "item": item})


for name in RESOURCES:
    app.add_route(item, f"/{name}/<id:int>/items/<item>", name=name)

if __name__ == "__main__":
    app.run(
        "127.0.0.1", int(sys.argv[1]), single_process=True, access_log=False, debug=False,
        motd=False,
    )
