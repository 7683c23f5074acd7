"""Robyn: ``python robyn_app.py --processes 1 --workers 1``, its port from ROBYN_PORT."""

from __future__ import annotations

import os

import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from msgspec import ValidationError
from robyn import Request, Response, Robyn

app = Robyn(__file__)
JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


def as_json(data: object, status: int = 200) -> Response:
    return Response(status_code=status, headers=JSON, description=orjson.dumps(data).decode())


@app.get("/json")
async def hello(request: Request) -> Response:
    return as_json(MESSAGE)


@app.get("/large")
async def large(request: Request) -> Response:
    return Response(status_code=200, headers=PLAIN, description=LARGE)


@app.post("/users")
async def create(request: Request) -> Response:
    try:
        user = decode_user(request.body)
    except ValidationError as error:
        return as_json({"detail": str(error)}, 422)
    return as_json(welcome(user))


async def item(request: Request) -> Response:
    found = request.path_params
    return as_json({"id": int(found["id"]), "item": found["item"]})


for name in RESOURCES:
    app.get(f"/{name}/:id/items/:item")(item)

if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(os.environ["ROBYN_PORT"]))
