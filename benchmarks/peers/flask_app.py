"""Flask, for gunicorn."""

from __future__ import annotations

from typing import Any

import orjson
from common import LARGE, MESSAGE, RESOURCES, decode_user, welcome
from flask import Flask, Response, request
from flask.json.provider import JSONProvider
from msgspec import ValidationError


class Provider(JSONProvider):
    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        return Response(
            orjson.dumps(self._prepare_response_obj(args, kwargs)), mimetype="application/json")


app = Flask("bench")
app.json = Provider(app)


@app.get("/json")
def hello() -> Any:
    return MESSAGE


@app.get("/large")
def large() -> Response:
    return Response(LARGE, mimetype="text/plain")


@app.post("/users")
def create() -> Any:
    try:
        user = decode_user(request.get_data())
    except ValidationError as error:
        return {"detail": str(error)}, 422
    return welcome(user)


def item(id: int, item: str) -> Any:
    return {"id": id, "item": item}


for name in RESOURCES:
    app.get(f"/{name}/<int:id>/items/<item>")(item)
