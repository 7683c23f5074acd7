"""The profiles as a bare ASGI application, for servers without a framework.

What a framework has for these things (a router, files, compression) is written out at its least.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
from arena_common import compressed, database_of, kind_of, stored, totals

PLAIN = (b"content-type", b"text/plain; charset=utf-8")
JSON = (b"content-type", b"application/json")
Receive = Callable[[], Awaitable[dict[str, Any]]]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
database = database_of()


async def pieces(receive: Receive) -> Any:
    more = True
    while more:
        message = await receive()
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def whole(receive: Receive) -> bytes:
    return b"".join([piece async for piece in pieces(receive)])


def as_json(data: Any, status: int = 200) -> Answer:
    return status, [JSON], orjson.dumps(data)


async def baseline(scope: Any, receive: Receive, query: dict[str, str]) -> Answer:
    total = int(query["a"]) + int(query["b"])
    if scope["method"] == "POST":
        total += int(await whole(receive))
    return 200, [PLAIN], b"%d" % total


async def pipeline(scope: Any, receive: Receive, query: dict[str, str]) -> Answer:
    return 200, [PLAIN], b"ok"


async def upload(scope: Any, receive: Receive, query: dict[str, str]) -> Answer:
    size = 0
    async for piece in pieces(receive):
        size += len(piece)
    return 200, [PLAIN], b"%d" % size


async def in_range(scope: Any, receive: Receive, query: dict[str, str]) -> Answer:
    names = {"min": "low", "max": "high", "limit": "limit"}
    return as_json(await database.in_range(
        **{names[name]: int(value) for name, value in query.items()}))


def json(scope: Any, last: str, query: dict[str, str]) -> Answer:
    status, fields, body = as_json(totals(int(last), int(query["m"])))
    accepted = dict(scope["headers"]).get(b"accept-encoding", b"")
    if b"gzip" in accepted:
        return status, [*fields, (b"content-encoding", b"gzip")], compressed(body)
    return status, fields, body


def static(scope: Any, name: str) -> Answer:
    accepted = dict(scope["headers"]).get(b"accept-encoding", b"").decode()
    found = stored(name, accepted)
    if found is None:
        return 404, [PLAIN], b""
    fields = [(b"content-type", kind_of(name).encode())]
    if found[0]:
        fields.append((b"content-encoding", found[0].encode()))
    return 200, fields, found[1]


async def items(scope: Any, receive: Receive, last: str, query: dict[str, Any]) -> Answer:
    if scope["method"] == "POST":
        return as_json(await database.create(orjson.loads(await whole(receive))), 201)
    if scope["method"] == "PUT":
        found = await database.change(int(last), orjson.loads(await whole(receive)))
        return as_json(found) if found else (404, [JSON], b"{}")
    if last == "items":
        return as_json(await database.page(**{
            name: value if name == "category" else int(value) for name, value in query.items()}))
    cached = await database.item(int(last))
    if cached is None:
        return 404, [JSON], b"{}"
    return 200, [JSON, (b"x-cache", cached[0].encode())], cached[1]


EXACT = {"/baseline11": baseline, "/pipeline": pipeline, "/upload": upload,
         "/async-db": in_range}


async def answer(scope: Any, receive: Receive) -> Answer:
    path = scope["path"]
    query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
    if path in EXACT:
        return await EXACT[path](scope, receive, query)
    _, first, *_ = path.split("/")
    last = path.rpartition("/")[2]
    if first == "json":
        return json(scope, last, query)
    if first == "static":
        return static(scope, last)
    return await items(scope, receive, last, query) if first == "crud" else (404, [PLAIN], b"")


async def echo(receive: Receive, send: Callable[[Any], Awaitable[None]]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def app(scope: Any, receive: Receive, send: Callable[[Any], Awaitable[None]]) -> None:
    if scope["type"] == "websocket" and scope["path"] == "/ws":
        await echo(receive, send)
        return
    if scope["type"] != "http":
        raise RuntimeError(f"scope {scope['type']}: none but http and /ws is served")
    status, headers, body = await answer(scope, receive)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
