"""Redis and Valkey by redis-py."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from apihour.engines.driver import Driver, Purpose
from apihour.engines.pool_options import SECONDS
from apihour.engines.pooled import PooledEngine
from apihour.engines.slowest import Slowest
from apihour.shared.redis_address import SCHEMES, redis_url

__all__ = ["Redis"]


class Redis(PooledEngine):
    """Redis or Valkey at ``redis://HOST:PORT/NUMBER`` (``rediss`` for TLS, ``unix://PATH``).

    What is given is a ``redis.asyncio.Redis`` of one connection, on which a pipeline, or a
    subscription, has its turn too. ``connect`` has what ``redis.asyncio.Redis.from_url`` takes.
    """

    kind = "redis"
    extra = "redis"
    module = "redis.asyncio"
    schemes = SCHEMES
    own = {"timeout": SECONDS}

    def make_driver(self, url: str, password: str) -> Driver:
        """See :class:`PooledEngine`."""
        # A command's time is kept by the clients below: up to Python 3.11 a cancel that comes as
        # one is sent is lost in redis-py's own (asyncio.wait_for).
        arguments = {"socket_timeout": None,
                     "socket_connect_timeout": self.options.connect_timeout,
                     "client_name": f"apihour-{self.name}", **self.given.get("connect", {})}
        if password:
            arguments["password"] = password
        return _RedisPy(redis_url(url), arguments, self.options.wait,
                        _Times(self.given.get("timeout"), self.slowest, self.count_error))

    def is_late(self, error: BaseException) -> bool:
        """See :class:`PooledEngine`."""
        library = importlib.import_module("redis.exceptions")
        return isinstance(error, library.TimeoutError)

    def user(self, wanted: Purpose) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """See :class:`PooledEngine`."""
        if wanted.transaction:
            raise ValueError("Transaction: expected Resource(), and redis.pipeline() for a MULTI")
        return super().user(wanted)


class _Times:
    """How long commands may take, and who hears how long they took and how they failed."""

    def __init__(
        self, limit: float | None, slowest: Slowest, failed: Callable[[BaseException], None]
    ) -> None:
        self.limit = limit
        self.slowest = slowest
        self.failed = failed

    async def bounded(self, library: Any, call: Awaitable[Any]) -> Any:
        """What comes of it; raises redis-py's TimeoutError when that is not in its time."""
        try:
            async with asyncio.timeout(self.limit) as clock:
                return await call
        except TimeoutError:
            if not clock.expired():
                raise
            raise library.TimeoutError(f"timeout: no answer within {self.limit:g} s") from None

    async def told(self, library: Any, name: str, call: Awaitable[Any]) -> Any:
        """The same, with a look at the clock; by name: keys are data."""
        began = time.monotonic()
        try:
            return await self.bounded(library, call)
        except library.RedisError as error:
            self.failed(error)
            raise
        finally:
            self.slowest.note(time.monotonic() - began, name, sys.exception())


def _timed(library: Any, times: _Times) -> type[Any]:
    """The class of clients whose commands have their time, and tell how long they took."""

    class TimedRedis(library.Redis):  # type: ignore[misc]
        """redis-py's own, and a look at the clock."""

        async def execute_command(self, *words: Any, **options: Any) -> Any:
            name = str(words[0]) if words else ""
            return await times.told(library, name, super().execute_command(*words, **options))

        def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
            return TimedPipeline(
                self.connection_pool, self.response_callbacks, transaction, shard_hint)

    class TimedPipeline(library.client.Pipeline):  # type: ignore[misc]
        """redis-py's own: its commands are one, but for those while it watches keys."""

        async def execute(self, raise_on_error: bool = True) -> Any:
            return await times.told(library, "PIPELINE", super().execute(raise_on_error))

        async def immediate_execute_command(self, *words: Any, **options: Any) -> Any:
            call = super().immediate_execute_command(*words, **options)
            is_own = self.watching or words[0] == "WATCH"  # else it is a part of execute()
            return await (times.told(library, str(words[0]), call) if is_own else call)

        async def reset(self) -> None:
            if self.connection is not None and not self.connection.is_connected:
                self.watching = False  # nobody watches for a connection that was cut off
            await times.bounded(library, super().reset())

    return TimedRedis


class _RedisPy:
    """redis-py's calls."""

    # The answer that nobody waited for would be taken for that of the next command.
    survives_cancel = False
    ping_after = 1.0  # seconds: nothing reads meanwhile, so nobody hears of an end

    def __init__(
        self, url: str, arguments: dict[str, Any], wait: float, times: _Times
    ) -> None:
        self._library = importlib.import_module("redis.asyncio")
        self._client = _timed(self._library, times)
        self._url = url
        self._arguments = {"max_connections": 1, "timeout": wait, **arguments}

    async def connect(self) -> Any:
        pool = self._library.BlockingConnectionPool.from_url(self._url, **self._arguments)
        client = self._client(connection_pool=pool)
        try:
            await client.ping()
        except BaseException:
            await pool.disconnect()
            raise
        return client

    async def disconnect(self, connection: Any) -> None:
        await connection.connection_pool.disconnect()

    def drop(self, connection: Any) -> None:
        """Nothing at once: who closes it discards what is under way."""

    def is_open(self, connection: Any) -> bool:
        return True

    async def ping(self, connection: Any) -> None:
        await connection.ping()

    async def begin(self, connection: Any, wanted: Purpose) -> Any:
        raise NotImplementedError

    async def commit(self, connection: Any, begun: Any) -> None:
        raise NotImplementedError

    async def rollback(self, connection: Any, begun: Any) -> None:
        """There is nothing to roll back."""

    async def reset(self, connection: Any) -> None:
        """Nothing of one user's stays; a pipeline, or subscription, that was left open would keep
        the client's only connection. Raises RuntimeError for one: its client is given up."""
        if not connection.connection_pool.can_get_connection():
            raise RuntimeError("a pipeline or a subscription was left open")
