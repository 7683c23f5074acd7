"""The profiles of HttpArena over HTTP/1.1 and WebSocket, by the rules for production.

baseline, short-lived, pipelined, json, json-comp, json-tls, upload, static, async-db, crud, api-4,
api-16, echo-ws. What it reads is in DATA_DIR (``/data``), the certificate for 8081 in CERTS_DIR
(``/certs``: server.crt, server.key); DATABASE_URL and DATABASE_MAX_CONN are the database::

    python data.py /tmp/arena && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
        -nodes -subj /CN=localhost -keyout /tmp/arena/server.key -out /tmp/arena/server.crt
    DATA_DIR=/tmp/arena CERTS_DIR=/tmp/arena python -m apihour.testing.with_postgres /tmp/arena/pg \
        sh -c 'python data.py && apihour httparena:Container'

``verify.py`` beside it checks all of them. What one would have Redis for, the cache of
``container.shared`` is: an item that one worker has read is a hit in the others, and gone for all
when it is changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import msgspec
from items import CREATE, MOST, ONE, PAGE, RANGE, UPDATE, as_item, within
from msgspec.structs import replace

import apihour
from apihour.engines import EngineError, Postgres, Resource
from apihour.shared import SharedCache
from apihour_http import HTTPError, HTTPServer, Request, Response, Routes

DATA = Path(os.environ.get("DATA_DIR", "/data"))
CERTS = Path(os.environ.get("CERTS_DIR", "/certs"))
LARGEST = 64 << 20  # bytes of an upload
FRESH = 0.2  # seconds that an item is cached
HIT, MISS = ({"Content-Type": "application/json", "X-Cache": how} for how in ("HIT", "MISS"))

Connection = Annotated[Any, Resource("pg")]  # an asyncpg.Connection
routes = Routes()
database = Routes()


class Rating(msgspec.Struct, gc=False):  # nothing in it leads back to it
    score: int
    count: int


class Item(msgspec.Struct, gc=False):
    id: int
    name: str
    category: str
    price: int
    quantity: int
    active: bool
    tags: list[str]
    rating: Rating
    total: int = 0  # of each answer


@routes.get("/baseline11")
def baseline(request, a: int, b: int):
    return str(a + b)


@routes.post("/baseline11")
def baseline_with_body(request, a: int, b: int):
    try:
        return str(a + b + int(request.body))
    except ValueError:
        raise HTTPError(400, "the body: expected a number") from None


@routes.get("/pipeline")
def pipeline(request):
    return "ok"


@routes.get("/json/{count:int}", compress=True)
def json(request: Request[Container], count: int, m: int):
    items = [replace(item, total=item.price * item.quantity * m)
             for item in request.container.dataset[:max(count, 0)]]
    return {"items": items, "count": len(items)}


@routes.post("/upload", stream_body=True, max_body=LARGEST)
async def upload(request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return str(size)


@routes.websocket("/ws")
async def echo(request, websocket):
    await websocket.accept()
    async for message in websocket:
        await websocket.send(message)


@database.get("/async-db")
async def in_range(request, pg: Connection, min: int = 10, max: int = 50, limit: int = MOST):
    rows = await pg.fetch(RANGE, min, max, within(limit))
    return {"items": [as_item(row) for row in rows], "count": len(rows)}


@database.exception_handler(EngineError)
@database.exception_handler(asyncpg.PostgresConnectionError)
def nothing(request, error):
    """The rules for a database that is away: no items, and no failure."""
    return Response(200, body={"items": [], "count": 0})


@routes.get("/crud/items")
async def page_of_items(
    request, pg: Connection, category: str = "electronics", page: int = 1, limit: int = 10
):
    page, limit = max(page, 1), within(limit)
    rows = await pg.fetch(PAGE, category, limit, (page - 1) * limit)
    return {"items": [as_item(row) for row in rows], "total": len(rows), "page": page,
            "limit": limit}


@routes.get("/crud/items/{id:int}")
async def item(request: Request[Container], id: int):
    cache = request.container.cache
    text = await cache.get(str(id))
    if text is not None:
        return Response(200, HIT, text)
    # Asked for only now: a hit needs no connection.
    async with request.container.engines["pg"].connection() as pg:
        row = await pg.fetchrow(ONE, id)
    if row is None:
        raise HTTPError(404, f"no item {id}")
    text = msgspec.json.encode(as_item(row))
    await cache.put(str(id), text, ttl=FRESH)
    return Response(200, MISS, text)


@dataclass
class Created:
    id: int
    name: str
    category: str
    price: int
    quantity: int


@dataclass
class Changed:
    name: str
    price: int
    quantity: int


@routes.post("/crud/items", status=201)
async def create(request: Request[Container], pg: Connection, body: Created):
    row = await pg.fetchrow(
        CREATE, body.id, body.name, body.category, body.price, body.quantity)
    await request.container.cache.delete(str(body.id))
    return as_item(row)


@routes.put("/crud/items/{id:int}")
async def change(request: Request[Container], pg: Connection, id: int, body: Changed):
    row = await pg.fetchrow(UPDATE, id, body.name, body.price, body.quantity)
    if row is None:
        raise HTTPError(404, f"no item {id}")
    await request.container.cache.delete(str(id))
    return as_item(row)


def places():
    """Plain, and by TLS where there is a certificate."""
    certificate = CERTS / "server.crt"
    secure = [f"127.0.0.1:8081?tls={certificate}&key={CERTS / 'server.key'}"]
    return ["127.0.0.1:8080", *(secure if certificate.exists() else [])]


class Container(apihour.Container):
    binds = {"http": places()}
    dataset: list[Item]
    cache: SharedCache

    def make_engines(self):
        most = int(os.environ.get("DATABASE_MAX_CONN", "64"))
        # It serves without a database, too, and no session is changed by a SET.
        return {"pg": Postgres("env:DATABASE_URL", max=most, at_start="retry", start_timeout=2,
                               reset=False)}

    def make_servers(self):
        return {"http": HTTPServer(routes, dumps=msgspec.json.encode, http2=False)}

    async def start(self):
        self.cache = self.shared.cache("items", entries=65_536, size=512)
        self.dataset = msgspec.json.decode((DATA / "dataset.json").read_bytes(), type=list[Item])


routes.include(database)
routes.static("/static", DATA / "static")  # remember= would keep what is to be read each time
