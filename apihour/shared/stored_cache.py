"""A cache in a store of another program: its own ``get``, ``put`` with a ttl, and ``delete``."""

from __future__ import annotations

from apihour.shared.backend import CompareAndSet, check_cache, check_cached, check_key

__all__ = ["StoredCache"]


class StoredCache:
    """Keys of `shared` that begin with ``cache/NAME/``; how many, its engine bounds.

    Raises what `shared` does, SharedDownError while it is away.
    """

    def __init__(self, shared: CompareAndSet, name: str, entries: int, size: int) -> None:
        self._longest = check_cache(name, entries, size)
        self.size = size
        self._shared = shared
        self._prefix = f"cache/{name}/"

    async def get(self, key: str) -> bytes | None:
        """See :meth:`SharedCache.get`."""
        check_key(key, limit=self._longest)
        entry = await self._shared.get(self._prefix + key)
        return None if entry is None else entry.value

    async def put(self, key: str, value: bytes, ttl: float) -> bool:
        """See :meth:`SharedCache.put`."""
        name = check_key(key, limit=self._longest)
        check_cached(key, value, ttl)
        if len(name) + len(value) > self.size:
            await self._shared.delete(self._prefix + key)
            return False
        await self._shared.put(self._prefix + key, value, ttl=ttl)
        return True

    async def delete(self, key: str) -> None:
        """See :meth:`SharedCache.delete`."""
        check_key(key, limit=self._longest)
        await self._shared.delete(self._prefix + key)
