"""MySQL and MariaDB by asyncmy."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from apihour.engines.driver import Driver, Purpose
from apihour.engines.pool_options import SECONDS
from apihour.engines.pooled import PooledEngine
from apihour.engines.slowest import Slowest

__all__ = ["MySQL"]

_ISOLATIONS = ("read_uncommitted", "read_committed", "repeatable_read", "serializable")
_TOO_MANY = (1040, 1203, 1226)  # ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, and its limit
# ER_LOCK_WAIT_TIMEOUT, max_statement_time of MariaDB, max_execution_time and NOWAIT of MySQL;
# ER_LOCK_DEADLOCK, and ER_CHECKREAD of MariaDB's snapshots: another transaction went before
_TOO_LATE = (1205, 1969, 3024, 3572, 1213, 1020)
_LOST = 2013  # CR_SERVER_LOST
_ENDING = 0.02  # seconds between two looks whether a connection has ended
_IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS of the protocol


class MySQL(PooledEngine):
    """MySQL or MariaDB at ``mysql://USER@HOST:PORT/DATABASE`` (``?unix_socket=PATH``).

    Connections are ``asyncmy.Connection``, with autocommit outside of transactions; ``connect``
    has what ``asyncmy.connect`` takes. What a request sets in its session stays for the next.
    """

    kind = "mysql"
    extra = "mysql"
    module = "asyncmy"
    schemes = ("mysql", "mariadb")
    own = {"timeout": SECONDS}

    def make_driver(self, url: str, password: str) -> Driver:
        """See :class:`PooledEngine`."""
        parts = urlsplit(url)
        socket = parse_qs(parts.query).get("unix_socket")
        arguments: dict[str, Any] = {
            "user": unquote(parts.username or "") or None,
            "password": password or unquote(parts.password or ""),
            "database": unquote(parts.path).strip("/") or None,
            "connect_timeout": max(1, round(self.options.connect_timeout)),
            "charset": "utf8mb4", "autocommit": True,
            "read_timeout": self.given.get("timeout"),
            **({"unix_socket": socket[0]} if socket else
               {"host": parts.hostname or "localhost", "port": parts.port or 3306}),
            **self.given.get("connect", {}),
        }
        return _Asyncmy(arguments, self.slowest, self.count_error)

    def is_late(self, error: BaseException) -> bool:
        """See :class:`PooledEngine`: by the server's own limits, too."""
        if not isinstance(error, importlib.import_module("asyncmy.errors").Error):
            return False
        code, text = (*error.args, 0, "")[:2]
        return code in _TOO_LATE or (code == _LOST and "read timeout" in str(text))

    def user(self, wanted: Purpose) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """See :class:`PooledEngine`."""
        if wanted.isolation and wanted.isolation not in _ISOLATIONS:
            raise ValueError(f"isolation {wanted.isolation!r}: expected {', '.join(_ISOLATIONS)}")
        return super().user(wanted)


def _telling_connection(
    library: Any, slowest: Slowest, failed: Callable[[BaseException], None],
) -> type[Any]:
    """The class of connections all whose cursors tell of statements that fail."""
    kinds: dict[type[Any], type[Any]] = {}

    def telling(kind: type[Any]) -> type[Any]:
        if kind not in kinds:
            kinds[kind] = _telling(kind, library, slowest, failed)
        return kinds[kind]

    class TellingConnection(library.Connection):  # type: ignore[misc]
        """asyncmy's own; a class of cursors that is asked for by name is not its own, either."""

        def __init__(self, cursor_cls: type[Any] = library.cursors.Cursor, **given: Any) -> None:
            super().__init__(cursor_cls=telling(cursor_cls), **given)

        def cursor(self, cursor: type[Any] | None = None) -> Any:
            return super().cursor(cursor and telling(cursor))

    return TellingConnection


def _telling(
    kind: type[Any], library: Any, slowest: Slowest, failed: Callable[[BaseException], None],
) -> type[Any]:
    """`kind` of cursors, that tells of statements that fail: asyncmy's callback does not."""

    class TellingCursor(kind):  # type: ignore[misc]
        """asyncmy's own, and a look at what it raises; `told`: what a call within has told."""

        told: BaseException | None = None

        async def execute(self, query: Any, *given: Any, **options: Any) -> Any:
            return await self._watched(query, super().execute(query, *given, **options))

        async def executemany(self, query: Any, *given: Any, **options: Any) -> Any:
            return await self._watched(query, super().executemany(query, *given, **options))

        async def callproc(self, name: Any, *given: Any, **options: Any) -> Any:
            return await self._watched(name, super().callproc(name, *given, **options))

        async def _watched(self, query: Any, call: Awaitable[Any]) -> Any:
            began = time.monotonic()
            try:
                return await call
            except BaseException as error:
                if error is not self.told:
                    self.told = error
                    if isinstance(error, library.errors.Error):
                        failed(error)
                    slowest.note(time.monotonic() - began, _text(query), error)
                raise

    return TellingCursor


def _text(query: Any) -> str:
    return query.decode("utf-8", "replace") if isinstance(query, bytes) else str(query)


class _Asyncmy:
    """asyncmy's calls."""

    # The answer that nobody waited for would be taken for that of the next query.
    survives_cancel = False
    ping_after = 1.0  # seconds: nothing reads meanwhile, so nobody hears of an end

    def __init__(
        self, arguments: dict[str, Any], slowest: Slowest,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._library = importlib.import_module("asyncmy")
        self._connection = _telling_connection(self._library, slowest, failed)
        self._arguments = {"query_callback": self._note, **arguments}
        self._slowest = slowest
        self._killing = asyncio.Lock()  # one at a time: its connection is beyond max
        self._cut: dict[Any, int] = {}  # connections closed at once, and their threads there

    def _note(self, cursor: Any, query: Any, milliseconds: float) -> None:
        self._slowest.note(milliseconds / 1000, _text(query))

    async def connect(self) -> Any:
        connection = self._connection(**self._arguments)
        await connection.connect()
        return connection

    async def disconnect(self, connection: Any) -> None:
        thread = self._cut.pop(connection, None)
        if thread is not None:
            await self._kill(thread)
        elif connection.connected:
            await connection.ensure_closed()

    async def _kill(self, thread: int) -> None:
        """End what goes on behind a connection that was cut: the server would not notice."""
        async with self._killing:
            killer = await self._connect_beside()
            try:
                async with killer.cursor(self._library.cursors.Cursor) as cursor:
                    with contextlib.suppress(self._library.errors.OperationalError):
                        await cursor.execute(f"KILL {thread:d}")  # if it has not ended by itself
                    # Until the server counts it no more, of which it tells nothing by itself.
                    while await cursor.execute(  # noqa: ASYNC110
                            f"SELECT 1 FROM information_schema.processlist WHERE id = {thread:d}"):
                        await asyncio.sleep(_ENDING)
            finally:
                await killer.ensure_closed()

    async def _connect_beside(self) -> Any:
        """One connection more; waits where another worker has it just now."""
        while True:
            try:
                return await self._library.connect(**self._arguments)
            except self._library.errors.OperationalError as error:
                if error.args[0] not in _TOO_MANY:
                    raise
            await asyncio.sleep(_ENDING)

    def drop(self, connection: Any) -> None:
        # It may be closed by now: a call that is cancelled closes it, and the server goes on.
        self._cut[connection] = connection.thread_id()
        connection.close()

    def is_open(self, connection: Any) -> bool:
        return bool(connection.connected)

    async def ping(self, connection: Any) -> None:
        await connection.ping(reconnect=False)

    async def begin(self, connection: Any, wanted: Purpose) -> Any:
        async with connection.cursor() as cursor:
            if wanted.isolation:
                await cursor.execute("SET TRANSACTION ISOLATION LEVEL "
                                     + wanted.isolation.replace("_", " ").upper())
            await cursor.execute(f"START TRANSACTION{' READ ONLY' if wanted.readonly else ''}")
        return True

    async def commit(self, connection: Any, begun: Any) -> None:
        await connection.commit()

    async def rollback(self, connection: Any, begun: Any) -> None:
        if begun is not None:
            await connection.rollback()

    async def reset(self, connection: Any) -> None:
        if connection.server_status & _IN_TRANSACTION:  # the application's own, left open
            await connection.rollback()
