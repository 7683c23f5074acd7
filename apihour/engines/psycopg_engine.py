"""PostgreSQL by psycopg 3."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Awaitable
from typing import Any

from apihour.engines.driver import Driver, Purpose
from apihour.engines.postgres import WATCHED, Postgres, PostgresDriver
from apihour.engines.psycopg_private import limited_connection
from apihour.engines.slowest import Slowest

__all__ = ["Psycopg"]

_CHUNK = 65536  # bytes of what is left unread
# What a connection is to be for the next one as it was: by PostgreSQL's DISCARD, but for prepared
# statements, which psycopg counts on.
_RESET = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"


class Psycopg(Postgres):
    """The same by psycopg: connections are ``psycopg.AsyncConnection``, with autocommit.

    ``connect`` has what ``AsyncConnection.connect`` takes.
    """

    kind = "psycopg"
    extra = "psycopg"
    module = "psycopg"
    schemes = ("postgresql", "postgres")

    def make_driver(self, url: str, password: str) -> Driver:
        """See :class:`PooledEngine`."""
        arguments = {"connect_timeout": max(1, round(self.options.connect_timeout)),
                     "application_name": self.called, **self.given.get("connect", {})}
        if password:
            arguments["password"] = password
        if self.given.get("pgbouncer", False):
            arguments["prepare_threshold"] = None
        elif "options=" not in url:  # those of the URL would be left out
            watched = " ".join(f"-c {name}={value}" for name, value in WATCHED.items())
            arguments["options"] = f"{watched} {arguments.get('options', '')}".strip()
        return _PsycopgDriver(self.given.get("timeout"), url, arguments, self.resets, self.slowest,
                              self.count_error)


def _timed(library: Any, slowest: Slowest) -> type[Any]:
    """The class of cursors that tell how long their queries take."""

    class TimedCursor(library.AsyncCursor):  # type: ignore[misc]
        """psycopg's own, and a look at the clock."""

        async def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
            return await self._timed(query, super().execute(query, *arguments, **options))

        async def executemany(self, query: Any, *arguments: Any, **options: Any) -> None:
            await self._timed(query, super().executemany(query, *arguments, **options))

        async def _timed(self, query: Any, call: Awaitable[Any]) -> Any:
            began = time.monotonic()
            try:
                return await call
            finally:
                text = query if isinstance(query, str) else type(query).__name__
                slowest.note(time.monotonic() - began, text, sys.exception())

    return TimedCursor


class _PsycopgDriver(PostgresDriver):
    """psycopg's calls."""

    module = "psycopg"

    def __init__(self, limit: float | None, *given: Any) -> None:
        super().__init__(*given)
        self._class = limited_connection(self.library, self.failed, limit)
        self.arguments = {
            "autocommit": True,
            "cursor_factory": _timed(self.library, self.slowest),
            **self.arguments}

    async def connect(self) -> Any:
        connect = self._class.connect
        try:
            return await connect(self.url, **self.arguments)
        except self.library.OperationalError as error:
            if not any(f'parameter "{name}"' in str(error) for name in WATCHED):
                raise
            for name, value in WATCHED.items():  # not known there: an older server
                options = self.arguments["options"]
                self.arguments["options"] = options.replace(f"-c {name}={value}", "").strip()
            return await connect(self.url, **self.arguments)

    async def disconnect(self, connection: Any) -> None:
        if connection.closed:  # by the server
            connection.pgconn.finish()
            return
        await connection.cancel_safe()  # nothing where nothing is under way
        with socket.socket(fileno=os.dup(connection.fileno())) as watched:
            watched.setblocking(False)
            await connection.close()
            # libpq does not wait for the server, which counts it until it has closed its end.
            with contextlib.suppress(OSError):
                while await asyncio.get_running_loop().sock_recv(watched, _CHUNK):
                    pass

    def is_open(self, connection: Any) -> bool:
        if connection.closed:
            return False
        # Nothing reads while it is not in use, so nobody has heard of an end.
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLRDHUP)
        return not poll.poll(0)

    async def begin(self, connection: Any, wanted: Purpose) -> Any:
        isolation = wanted.isolation.replace("_", " ").upper()
        await connection.execute(
            f"BEGIN{f' ISOLATION LEVEL {isolation}' if isolation else ''}"
            f"{' READ ONLY' if wanted.readonly else ''}")
        return True

    async def commit(self, connection: Any, begun: Any) -> None:
        await connection.commit()

    async def rollback(self, connection: Any, begun: Any) -> None:
        await connection.rollback()

    async def reset(self, connection: Any) -> None:
        if connection.info.transaction_status:  # the application's own, which it left open
            await connection.rollback()
        if self.resets:
            await connection.execute(_RESET)
