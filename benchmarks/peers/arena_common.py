"""What the peers of arena.py share: the files that are served, and the tables' items, by asyncpg.

``examples/httparena`` is in the path: its statements and items are everybody's.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
import time
import zlib
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from items import CREATE, MOST, ONE, PAGE, RANGE, UPDATE, as_item, within

__all__ = ["DATA", "FRESH", "Database", "compressed", "database_of", "kind_of", "stored", "totals"]

DATA = Path(os.environ["DATA_DIR"])
STATIC = DATA / "static"
POOL = 8  # connections of a server
FRESH = 0.2  # seconds that an item is cached
DATASET = json.loads((DATA / "dataset.json").read_text())


def totals(count: int, m: int) -> dict[str, Any]:
    """What /json answers."""
    items = [{**one, "total": one["price"] * one["quantity"] * m} for one in DATASET[:count]]
    return {"items": items, "count": len(items)}


def compressed(body: bytes) -> bytes:
    """By gzip, at the level of the arena's own entries of uvicorn and fastpysgi."""
    return zlib.compress(body, 1, 31)


def stored(name: str, accepted: str) -> tuple[str, bytes] | None:
    """Coding and content of a file as it is now, compressed beforehand where that is accepted.

    As the arena's rule for production has it: its own entries of bjoern, fastpysgi and uvicorn are
    "engines", and keep all files in memory.
    """
    for coding, end in (("br", ".br"), ("gzip", ".gz"), ("", "")):
        if coding in accepted:
            try:
                with open(f"{STATIC}/{name}{end}", "rb", 0) as file:
                    return coding, file.read()
            except FileNotFoundError:
                continue
    return None


def kind_of(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


class NoReset(asyncpg.Connection):  # type: ignore[misc]
    """As in the arena's own entries: nothing is undone behind a request."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


class Database:
    """The items; those that were read are cached in this process, of which each peer has one."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._making = asyncio.Lock()
        self._cached: dict[int, tuple[float, bytes]] = {}

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        if self._pool is None:
            async with self._making:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        os.environ["DATABASE_URL"], min_size=POOL, max_size=POOL,
                        connection_class=NoReset)
        async with self._pool.acquire() as connection:
            rows: list[Any] = await connection.fetch(statement, *values)
        return rows

    async def in_range(self, low: int = 10, high: int = 50, limit: int = MOST) -> Any:
        rows = await self._rows(RANGE, low, high, within(limit))
        return {"items": [as_item(row) for row in rows], "count": len(rows)}

    async def page(self, category: str = "electronics", page: int = 1, limit: int = 10) -> Any:
        page, limit = max(page, 1), within(limit)
        rows = await self._rows(PAGE, category, limit, (page - 1) * limit)
        return {"items": [as_item(row) for row in rows], "total": len(rows), "page": page,
                "limit": limit}

    async def item(self, number: int) -> tuple[str, bytes] | None:
        """HIT or MISS, and the item as JSON."""
        until, body = self._cached.get(number, (0.0, b""))
        if until > time.monotonic():
            return "HIT", body
        rows = await self._rows(ONE, number)
        if not rows:
            return None
        body = orjson.dumps(as_item(rows[0]))
        self._cached[number] = time.monotonic() + FRESH, body
        return "MISS", body

    async def create(self, body: dict[str, Any]) -> Any:
        rows = await self._rows(CREATE, body["id"], body["name"], body["category"], body["price"],
                                body["quantity"])
        self._cached.pop(body["id"], None)
        return as_item(rows[0])

    async def change(self, number: int, body: dict[str, Any]) -> Any:
        rows = await self._rows(UPDATE, number, body["name"], body["price"], body["quantity"])
        self._cached.pop(number, None)
        return as_item(rows[0]) if rows else None


def database_of() -> Database:
    """The items, cached in this process; in Redis where there is a REDIS_URL."""
    if "REDIS_URL" not in os.environ:
        return Database()
    from arena_redis import RedisDatabase

    return RedisDatabase()
