"""A bare ASGI application, for uvicorn, granian and gunicorn's ASGI worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from common import LARGE, MESSAGE, decode_user, welcome
from msgspec import ValidationError

Send = Callable[[dict[str, Any]], Awaitable[None]]
JSON, PLAIN = b"application/json", b"text/plain; charset=utf-8"


async def answer(send: Send, status: int, media: bytes, body: bytes) -> None:
    await send({
        "type": "http.response.start", "status": status,
        "headers": [(b"content-type", media), (b"content-length", b"%d" % len(body))],
    })
    await send({"type": "http.response.body", "body": body})


async def read(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def app(scope: dict[str, Any], receive: Any, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    if path == "/json":
        await answer(send, 200, JSON, orjson.dumps(MESSAGE))
    elif path == "/large":
        await answer(send, 200, PLAIN, LARGE.encode())
    elif path == "/users":
        try:
            user = decode_user(await read(receive))
        except ValidationError as error:
            await answer(send, 422, JSON, orjson.dumps({"detail": str(error)}))
        else:
            await answer(send, 200, JSON, orjson.dumps(welcome(user)))
    else:
        await answer(send, 404, PLAIN, b"")
