"""SQLite by aiosqlite: a thread for each connection."""

from __future__ import annotations

import importlib
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from apihour.engines.budget import Alone, Budget
from apihour.engines.driver import Driver, Purpose
from apihour.engines.pooled import PooledEngine
from apihour.engines.slowest import Slowest
from apihour.engines.undoing import undo
from apihour.resources import EngineContext

__all__ = ["SQLite"]

_BUSY = 5.0  # seconds that a statement waits for another's write


class SQLite(PooledEngine):
    """The file ``PATH``, or ``sqlite:///PATH``; connections are ``aiosqlite.Connection``.

    Its journal is write-ahead, so that who reads does not wait for who writes, and foreign keys
    are kept. ``max`` is of each worker: there is no server. A transaction takes the right to write
    when it begins, unless it is ``readonly``. ``connect`` has what ``aiosqlite.connect`` takes.
    """

    kind = "sqlite"
    extra = "sqlite"
    module = "aiosqlite"
    schemes = ("sqlite",)

    def place(self, url: str) -> str:
        """The file. Raises ValueError for none, and for one in memory."""
        path = url.removeprefix("sqlite:///")
        if not path or "://" in path or ":memory:" in path:
            raise ValueError("no file; expected its path, or sqlite:///PATH")
        return path

    def _budget(self, context: EngineContext) -> Budget:
        return Alone(self.options.max)

    def make_driver(self, url: str, password: str) -> Driver:
        """See :class:`PooledEngine`."""
        return _Aiosqlite(self.place(url), self.given.get("connect", {}), self.slowest,
                          self.count_error)

    def is_late(self, error: BaseException) -> bool:
        """See :class:`PooledEngine`: others kept the database to themselves for too long."""
        return (isinstance(error, sqlite3.Error)
                and getattr(error, "sqlite_errorcode", 0) & 0xff == sqlite3.SQLITE_BUSY)

    def user(self, wanted: Purpose) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """See :class:`PooledEngine`."""
        if wanted.isolation:
            raise ValueError(f"isolation {wanted.isolation!r}: expected none, SQLite's "
                             "transactions are serializable")
        return super().user(wanted)


def _clock(
    slowest: Slowest, failed: Callable[[BaseException], None],
) -> Callable[..., sqlite3.Cursor]:
    """What makes a call with a statement, and tells how long it took, or how it failed."""

    def timed(call: Callable[..., sqlite3.Cursor], sql: str, *given: Any) -> sqlite3.Cursor:
        began = time.monotonic()
        try:
            return call(sql, *given)
        except sqlite3.Error as error:
            # That is a cancel of ours; one of the module itself has no code.
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                failed(error)
            raise
        finally:
            slowest.note(time.monotonic() - began, sql, sys.exception())

    return timed


def _timed(timed: Callable[..., sqlite3.Cursor]) -> type[sqlite3.Connection]:
    """The class of connections all whose statements are made by `timed`."""

    class ClockedCursor(sqlite3.Cursor):
        """sqlite3's own, and a look at the clock."""

        def execute(self, sql: str, given: Any = (), /) -> Any:
            return timed(super().execute, sql, given)

        def executemany(self, sql: str, given: Iterable[Any], /) -> Any:
            return timed(super().executemany, sql, given)

        def executescript(self, sql: str, /) -> Any:
            return timed(super().executescript, sql)

    class TimedConnection(sqlite3.Connection):
        """sqlite3's own, whose calls are those of a cursor."""

        def cursor(self, factory: Any = ClockedCursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, given: Any = (), /) -> Any:
            return self.cursor().execute(sql, given)

        def executemany(self, sql: str, given: Iterable[Any], /) -> Any:
            return self.cursor().executemany(sql, given)

        def executescript(self, sql: str, /) -> Any:
            return self.cursor().executescript(sql)

    return TimedConnection


class _Aiosqlite:
    """aiosqlite's calls."""

    # What was cancelled is interrupted, and what comes then waits for its end.
    survives_cancel = True
    ping_after = float("inf")

    def __init__(
        self, path: str, arguments: dict[str, Any], slowest: Slowest,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._library = importlib.import_module("aiosqlite")
        self._path = path
        self._keeps_context = slowest.keeps_context
        self._arguments = {"timeout": _BUSY, "isolation_level": None,
                           "factory": _timed(_clock(slowest, failed)), **arguments}

    async def connect(self) -> Any:
        connection = self._library.connect(self._path, **self._arguments)
        if self._keeps_context:
            from apihour.engines.aiosqlite_private import keep_context

            keep_context(connection)
        await connection
        try:
            for pragma in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = NORMAL"):
                await connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.stop()
            raise
        return connection

    async def disconnect(self, connection: Any) -> None:
        await undo(connection.close(), connection.interrupt)

    def drop(self, connection: Any) -> None:
        """Nothing at once: who closes it interrupts what is under way."""

    def is_open(self, connection: Any) -> bool:
        return True

    async def ping(self, connection: Any) -> None:
        await connection.execute("SELECT 1")

    async def begin(self, connection: Any, wanted: Purpose) -> Any:
        await connection.execute("BEGIN" if wanted.readonly else "BEGIN IMMEDIATE")
        return True

    async def commit(self, connection: Any, begun: Any) -> None:
        await connection.commit()

    async def rollback(self, connection: Any, begun: Any) -> None:
        await connection.interrupt()
        await undo(connection.rollback(), connection.interrupt)

    async def reset(self, connection: Any) -> None:
        if connection.in_transaction:  # the application's own, which it left open
            await connection.rollback()
