"""A bare RSGI application, for granian."""

from __future__ import annotations

from typing import Any

import orjson
from common import LARGE, MESSAGE, decode_user, welcome
from msgspec import ValidationError

JSON = [("content-type", "application/json")]
PLAIN = [("content-type", "text/plain; charset=utf-8")]


async def app(scope: Any, protocol: Any) -> None:
    path = scope.path
    if path == "/json":
        protocol.response_bytes(200, JSON, orjson.dumps(MESSAGE))
    elif path == "/large":
        protocol.response_str(200, PLAIN, LARGE)
    elif path == "/users":
        try:
            user = decode_user(await protocol())
        except ValidationError as error:
            protocol.response_bytes(422, JSON, orjson.dumps({"detail": str(error)}))
        else:
            protocol.response_bytes(200, JSON, orjson.dumps(welcome(user)))
    else:
        protocol.response_empty(404, PLAIN)
