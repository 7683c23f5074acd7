"""The items with Redis as their cache: what the peers of arena.py need when they are more than one.

redis-py's asyncio client on a unix socket, with hiredis, as REDIS_URL says.
"""

from __future__ import annotations

import os
from typing import Any

import orjson
from arena_common import FRESH, Database
from items import ONE, as_item
from redis.asyncio import Redis

__all__ = ["RedisDatabase"]


class RedisDatabase(Database):
    """The same, which processes have together."""

    def __init__(self) -> None:
        super().__init__()
        self._redis = Redis.from_url(os.environ["REDIS_URL"])

    async def item(self, number: int) -> tuple[str, bytes] | None:
        """See :class:`Database`."""
        body = await self._redis.get(f"items/{number}")
        if body is not None:
            return "HIT", body
        rows = await self._rows(ONE, number)
        if not rows:
            return None
        body = orjson.dumps(as_item(rows[0]))
        await self._redis.set(f"items/{number}", body, px=int(FRESH * 1000))
        return "MISS", body

    async def create(self, body: dict[str, Any]) -> Any:
        """See :class:`Database`."""
        made = await super().create(body)
        await self._redis.delete(f"items/{body['id']}")
        return made

    async def change(self, number: int, body: dict[str, Any]) -> Any:
        """See :class:`Database`."""
        changed = await super().change(number, body)
        await self._redis.delete(f"items/{number}")
        return changed
