"""PostgreSQL by asyncpg."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from apihour.engines.asyncpg_private import cancel_again, timed_connection
from apihour.engines.driver import Driver, Purpose
from apihour.engines.pool_options import SECONDS, is_truth
from apihour.engines.pooled import PooledEngine
from apihour.engines.slowest import Slowest
from apihour.engines.undoing import undo

__all__ = ["ISOLATIONS", "WATCHED", "Postgres", "PostgresDriver", "see_postgres_use"]

# The server looks that often whether who asked still lives: what a killed worker had asked for
# would go on, and its connection count, for as long as it takes. From PostgreSQL 14 on.
WATCHED = {"client_connection_check_interval": "1s"}
# query_canceled, lock_not_available by lock_timeout or NOWAIT, deadlock_detected,
# serialization_failure (PostgreSQL, appendix A)
_TOO_LATE = ("57014", "55P03", "40P01", "40001")
ISOLATIONS = ("read_committed", "repeatable_read", "serializable")


def see_postgres_use(wanted: Purpose, pgbouncer: bool) -> None:
    """Raise ValueError for what PostgreSQL, or PgBouncer before it, cannot give."""
    if wanted.isolation and wanted.isolation not in ISOLATIONS:
        raise ValueError(f"isolation {wanted.isolation!r}: expected {', '.join(ISOLATIONS)}")
    if pgbouncer and not wanted.transaction:
        raise ValueError("Resource with pgbouncer: expected Transaction, the server behind "
                         "PgBouncer is the same one within a transaction only")


class Postgres(PooledEngine):
    """PostgreSQL at ``postgresql://USER@HOST:PORT/DATABASE``; connections are asyncpg's.

    ``pgbouncer=True`` for a PgBouncer in transaction mode. ``reset=False`` leaves out the round
    trip that undoes what a request may have SET, LISTENed to or locked in its session.
    """

    kind = "pg"
    extra = "pg"
    module = "asyncpg"
    schemes = ("postgresql", "postgres")
    own = {"pgbouncer": (is_truth, "true or false"), "reset": (is_truth, "true or false"),
           "timeout": SECONDS}

    def make_driver(self, url: str, password: str) -> Driver:
        """See :class:`PooledEngine`."""
        arguments: dict[str, Any] = {"timeout": self.options.connect_timeout,
                                     **self.given.get("connect", {})}
        bouncer = self.given.get("pgbouncer", False)
        arguments["server_settings"] = {
            "application_name": self.called, **({} if bouncer else WATCHED),
            **arguments.get("server_settings", {})}
        if password:
            arguments["password"] = password
        if bouncer:
            arguments["statement_cache_size"] = 0
        if "timeout" in self.given:
            arguments["command_timeout"] = self.given["timeout"]
        return _Asyncpg(url, arguments, self.resets, self.slowest, self.count_error)

    @property
    def resets(self) -> bool:
        """Whether what a request may have set in its session is undone."""
        found: bool = self.given.get("reset", not self.given.get("pgbouncer", False))
        return found

    @property
    def called(self) -> str:
        """How pg_stat_activity calls its connections."""
        worker = getattr(getattr(self.context.container, "worker", None), "name", "")
        return f"apihour {self.name} {worker}".strip()

    def explain(self, error: BaseException) -> str:
        """See :class:`PooledEngine`."""
        text = super().explain(error)
        is_bouncer = "unsupported startup parameter" in text
        return f"{text}; behind a PgBouncer, expected pgbouncer=True" if is_bouncer else text

    def is_late(self, error: BaseException) -> bool:
        """See :class:`PooledEngine`: by a limit of the server's own, too."""
        return super().is_late(error) or getattr(error, "sqlstate", None) in _TOO_LATE

    def user(self, wanted: Purpose) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """See :class:`PooledEngine`."""
        see_postgres_use(wanted, self.given.get("pgbouncer", False))
        return super().user(wanted)


class PostgresDriver:
    """What the calls of both libraries have in common."""

    # They ask the server to stop, and wait for that, before the connection is used again.
    survives_cancel = True
    ping_after = 30.0
    module = ""

    def __init__(
        self, url: str, arguments: dict[str, Any], resets: bool, slowest: Slowest,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.library = importlib.import_module(self.module)
        self.url = url
        self.arguments = arguments
        self.resets = resets
        self.slowest = slowest
        self.failed = failed

    def drop(self, connection: Any) -> None:
        """Nothing at once: who closes it cancels what is under way, and waits for the server."""

    async def ping(self, connection: Any) -> None:
        await connection.execute("SELECT 1")


class _Asyncpg(PostgresDriver):
    """asyncpg's calls."""

    module = "asyncpg"

    async def connect(self) -> Any:
        base = self.arguments.get("connection_class", self.library.Connection)
        arguments = {**self.arguments, "connection_class": timed_connection(base, self._note)}
        try:
            connection = await self.library.connect(self.url, **arguments)
        except self.library.UndefinedObjectError as error:
            settings = self.arguments["server_settings"]
            if not any(name in str(error) and settings.pop(name, None) for name in WATCHED):
                raise
            connection = await self.library.connect(self.url, **arguments)
        connection.add_query_logger(self._log)
        return connection

    def _log(self, record: Any) -> None:
        self._note(record.elapsed, record.query, record.exception)

    def _note(self, seconds: float, query: str, error: BaseException | None) -> None:
        self.slowest.note(seconds, query, error)
        # One that is cancelled has not failed: its request has ended.
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.failed(error)

    async def disconnect(self, connection: Any) -> None:
        await connection.close()

    def is_open(self, connection: Any) -> bool:
        return not connection.is_closed()

    async def begin(self, connection: Any, wanted: Purpose) -> Any:
        transaction = connection.transaction(
            isolation=wanted.isolation or None, readonly=wanted.readonly)
        await transaction.start()
        return transaction

    async def commit(self, connection: Any, begun: Any) -> None:
        await begun.commit()

    async def rollback(self, connection: Any, begun: Any) -> None:
        await undo(begun.rollback() if begun is not None else connection.reset(),
                   lambda: cancel_again(connection))

    async def reset(self, connection: Any) -> None:
        if self.resets:
            await connection.reset()
