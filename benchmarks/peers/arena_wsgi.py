"""The profiles as a bare WSGI application, for bjoern and fastpysgi.

Both have one thread, so that a statement has all others wait.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import orjson
import psycopg
from arena_common import compressed, kind_of, stored, totals
from items import MOST, RANGE, as_item, within
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

PLAIN, JSON = "text/plain", "application/json"
Answer = tuple[str, list[tuple[str, str]], bytes]
set_json_loads(lambda data: data)  # as_item() decodes it


@functools.cache
def database() -> psycopg.Connection[Any]:
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, row_factory=dict_row,
                           cursor_factory=psycopg.RawCursor)


def ok(kind: str, body: bytes, *more: tuple[str, str]) -> Answer:
    return "200 OK", [("Content-Type", kind), *more], body


def read(environ: dict[str, Any]) -> Iterable[bytes]:
    return iter(lambda: environ["wsgi.input"].read(65536), b"")


def baseline(environ: dict[str, Any], query: dict[str, str]) -> Answer:
    total = int(query["a"]) + int(query["b"])
    if environ["REQUEST_METHOD"] == "POST":
        total += int(b"".join(read(environ)))
    return ok(PLAIN, b"%d" % total)


def pipeline(environ: dict[str, Any], query: dict[str, str]) -> Answer:
    return ok(PLAIN, b"ok")


def upload(environ: dict[str, Any], query: dict[str, str]) -> Answer:
    return ok(PLAIN, b"%d" % sum(map(len, read(environ))))


def in_range(environ: dict[str, Any], query: dict[str, str]) -> Answer:
    low, high, limit = (int(query.get(name, default)) for name, default in (
        ("min", 10), ("max", 50), ("limit", MOST)))
    rows = database().execute(RANGE, (low, high, within(limit))).fetchall()
    return ok(JSON, orjson.dumps({"items": [as_item(row) for row in rows], "count": len(rows)}))


def json(environ: dict[str, Any], last: str, query: dict[str, str]) -> Answer:
    body = orjson.dumps(totals(int(last), int(query["m"])))
    if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        return ok(JSON, compressed(body), ("Content-Encoding", "gzip"))
    return ok(JSON, body)


def static(environ: dict[str, Any], name: str) -> Answer:
    found = stored(name, environ.get("HTTP_ACCEPT_ENCODING", ""))
    if found is None:
        return "404 Not Found", [], b""
    return ok(kind_of(name), found[1], *([("Content-Encoding", found[0])] if found[0] else []))


EXACT: dict[str, Callable[[dict[str, Any], dict[str, str]], Answer]] = {
    "/baseline11": baseline, "/pipeline": pipeline, "/upload": upload, "/async-db": in_range}


def answer(environ: dict[str, Any]) -> Answer:
    path = environ["PATH_INFO"]
    query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    if path in EXACT:
        return EXACT[path](environ, query)
    _, first, *_ = path.split("/")
    last = path.rpartition("/")[2]
    if first == "json":
        return json(environ, last, query)
    return static(environ, last) if first == "static" else ("404 Not Found", [], b"")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    status, fields, body = answer(environ)
    start_response(status, [*fields, ("Content-Length", str(len(body)))])
    return [body]

