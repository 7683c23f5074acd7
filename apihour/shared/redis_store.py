"""``container.shared`` in Redis or Valkey, by redis-py: for all daemons that use one.

A failover of theirs may lose the last writes, which replicas had not yet: a lock may be held
twice then. Revisions grow all the same, so a resource that checks them is safe.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from apihour.errors import ConfigurationError, RevisionError, SharedError, SharedFullError
from apihour.masking import mask_text
from apihour.shared import redis_scripts
from apihour.shared.backend import (
    VALUE_LIMIT,
    Change,
    Entry,
    check_key,
    check_ttl,
    check_value,
)
from apihour.shared.redis_address import redis_url
from apihour.shared.remote import News, RemoteShared

__all__ = ["RedisShared"]

_CONNECTIONS = 32  # of one worker, beside those of watches
_PAGE = 500  # entries that are asked for at once
_LOOK = 10.0  # seconds between two looks at everything that a watch makes
_RETRY = 0.2  # seconds between two attempts of a watch to come back


class RedisShared(RemoteShared):
    """The store at `url`; `prefix` is what its keys begin with there."""

    def __init__(
        self, path: str | os.PathLike[str], *, url: str, prefix: str = "apihour",
        deadline: float = 1.0,
    ) -> None:
        super().__init__(path, deadline)
        self.where = f"shared store {mask_text(url)}"
        try:
            library = importlib.import_module("redis.asyncio")
        except ImportError as error:
            raise ConfigurationError(
                f"{self.where}: needs redis-py: pip install 'apihour[redis]'") from error
        self.down = (library.ConnectionError, library.TimeoutError, library.BusyLoadingError,
                     OSError)
        self._error = library.RedisError
        options = {"socket_connect_timeout": deadline, "socket_timeout": None,
                   "client_name": "apihour-shared"}
        url = redis_url(url)
        self._client = library.Redis(connection_pool=library.BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=deadline, **options))
        self._listener = library.Redis.from_url(url, **options)  # of watches: one connection each
        # One place in a cluster's key space: a script sees it all.
        self._prefix = b"{" + check_key(prefix) + b"}:"
        self._channel = self._prefix + b"news"
        self._names = self._prefix + b"names"
        self._scripts = {text: self._client.register_script(text) for text in (
            redis_scripts.PUT, redis_scripts.DELETE, redis_scripts.INCREMENT,
            redis_scripts.APPEND, redis_scripts.LOOK, redis_scripts.FORGET)}

    async def open(self, seconds: float = 2.0) -> None:
        """See :class:`RemoteShared`."""
        try:
            info = await self.within(self._client.info(), seconds)
        except self._error as error:
            raise ConfigurationError(f"{self.where}: info: {error}; expected a user who may do "
                                     "everything with its keys and its channel") from error
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy.startswith("allkeys"):
            raise ConfigurationError(
                f"{self.where}: maxmemory-policy {policy} forgets what it was told to keep; "
                "expected noeviction, or one of volatile-*")

    async def get(self, key: str) -> Entry | None:
        """See :meth:`SharedBackend.get`."""
        found = await self._run(redis_scripts.LOOK, key, (self._place(check_key(key)),), ())
        return Entry(key, found[1], int(found[0])) if found else None

    async def put(
        self, key: str, value: bytes, expected_revision: int | None = None,
        ttl: float | None = None,
    ) -> int:
        """See :meth:`SharedBackend.put`."""
        check_value(key, value)
        how, revision = await self._write(
            redis_scripts.PUT, key, value, _text(expected_revision), _milliseconds(key, ttl))
        if how == b"revision":
            raise RevisionError(key, expected_revision or 0, int(revision))
        return int(revision)

    async def delete(self, key: str, expected_revision: int | None = None) -> bool:
        """See :meth:`SharedBackend.delete`."""
        how, revision = await self._write(redis_scripts.DELETE, key, _text(expected_revision))
        if how == b"revision":
            raise RevisionError(key, expected_revision or 0, int(revision))
        return bool(how == b"done")

    async def incr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """See :meth:`SharedBackend.incr`; the sum has 64 bits."""
        found = await self._write(redis_scripts.INCREMENT, key, by, _milliseconds(key, ttl))
        if found[0] == b"number":
            raise SharedError(f"shared key {key!r}: {found[1]!r} cannot be incremented, expected "
                              "decimal digits, and a sum of 64 bits")
        return int(found[2])

    async def append(self, key: str, item: bytes, ttl: float | None = None) -> int:
        """See :meth:`SharedBackend.append`."""
        check_value(key, item)
        how, revision = await self._write(
            redis_scripts.APPEND, key, item, _milliseconds(key, ttl), VALUE_LIMIT)
        if how == b"long":
            raise SharedError(f"shared key {key!r}: value of {int(revision)} bytes, expected at "
                              f"most {VALUE_LIMIT}")
        return int(revision)

    async def items(self, prefix: str = "") -> list[Entry]:
        """See :meth:`SharedBackend.items`."""
        found = await self.within(self._all(check_key(prefix, prefix=True)))
        return [entry for entry, _ in found]

    def watch(self, prefix: str = "") -> AsyncIterator[Change]:
        """See :meth:`SharedBackend.watch`. Sees a change when Redis has told of it."""
        start = check_key(prefix, prefix=True)
        return self.tell(lambda news: self._follow(start, news))

    async def let_go(self) -> None:
        """See :class:`RemoteShared`."""
        await self._client.aclose(close_connection_pool=True)
        await self._listener.aclose()

    # -- calls -----------------------------------------------------------------------------

    def _place(self, name: bytes) -> bytes:
        return self._prefix + b"k:" + name

    async def _write(self, script: str, key: str, *words: Any) -> Any:
        name = check_key(key)
        return await self._run(
            script, key, (self._place(name), self._prefix + b"revision", self._names),
            (name, self._channel, *words))

    async def _run(self, script: str, key: str, keys: Any, words: Any) -> Any:
        self.check_open()
        return await self._answer(f"key {key!r}", self._scripts[script](keys=keys, args=words))

    async def _answer(self, what: str, call: Awaitable[Any]) -> Any:
        try:
            return await self.within(call)
        except self._error as error:  # it is there, and refuses
            full = "OOM" in str(error) or type(error).__name__ == "OutOfMemoryError"
            raise (SharedFullError if full else SharedError)(
                f"shared {what}: {self.where}: {error}") from error

    async def _all(self, start: bytes) -> list[tuple[Entry, float]]:
        """The entries by name, and the seconds that each holds."""
        self.check_open()
        found: list[tuple[Entry, float]] = []
        low = b"[" + start if start else b"-"
        while True:
            names = await self._answer(f"keys {start!r}", self._client.zrangebylex(
                self._names, low, b"[" + start + b"\xff", start=0, num=_PAGE))
            found += await self._look_at(names)
            if len(names) < _PAGE:
                return found
            low = b"(" + names[-1]

    async def _look_at(self, names: list[bytes]) -> list[tuple[Entry, float]]:
        keys = {name: key for name in names if (key := _key(name))}
        pipe = self._client.pipeline(transaction=False)
        for name in keys:
            await self._scripts[redis_scripts.LOOK](keys=(self._place(name),), client=pipe)
        answers = await self._answer(f"keys {names[:1]!r}", pipe.execute()) if keys else []
        seen = []
        for (name, key), found in zip(keys.items(), answers, strict=True):
            if found:
                left = int(found[2]) / 1000
                seen.append((Entry(key, found[1], int(found[0])),
                             left if left >= 0 else math.inf))
            else:
                await self._run(redis_scripts.FORGET, key,
                                (self._place(name), self._names), (name,))
        return seen

    # -- watching --------------------------------------------------------------------------

    async def _follow(self, start: bytes, news: News) -> None:
        """Tell `news` of everything, for ever, through every loss of the connection."""
        while True:
            channel = self._listener.pubsub()
            try:
                async with asyncio.timeout(max(5.0, self.deadline)):
                    await channel.subscribe(self._channel)
                await self._hear(channel, start, news)
            except (SharedError, self._error, OSError, TimeoutError):
                await asyncio.sleep(_RETRY)
            finally:
                await channel.aclose()

    async def _hear(self, channel: Any, start: bytes, news: News) -> None:
        expiries: dict[bytes, float] = {}
        next_look = 0.0
        while True:
            now = time.monotonic()
            if now >= next_look:
                next_look = now + _LOOK
                everything = await self._all(start)
                news.see_all([entry for entry, _ in everything])
                expiries = {entry.key.encode(): now + left for entry, left in everything
                            if left < math.inf}
            soonest = min(next_look, *expiries.values()) if expiries else next_look
            message = await channel.get_message(
                ignore_subscribe_messages=True, timeout=max(0.001, soonest - now))
            now = time.monotonic()
            due = {name for name, when in expiries.items() if when <= now}
            revision = 0
            if message is not None:
                text, _, name = message["data"].partition(b" ")
                if text.isdigit() and len(text) < 20 and _key(name) and name.startswith(start):
                    revision = int(text)
                    due.add(name)
            for name in due:
                expiries.pop(name, None)
                found = await self._look_at([name])
                for entry, left in found:
                    news.see(entry.key, entry.value, entry.revision)
                    if left < math.inf:
                        expiries[name] = time.monotonic() + left
                if not found:
                    news.see(name.decode(), None, revision)


def _key(name: bytes) -> str:
    """The key of that name; nothing for another program's."""
    try:
        return name.decode()
    except ValueError:
        return ""


def _text(revision: int | None) -> str:
    return "" if revision is None else str(revision)


def _milliseconds(key: str, ttl: float | None) -> str:
    check_ttl(key, ttl)
    return "" if ttl is None else str(math.ceil(ttl * 1000))
