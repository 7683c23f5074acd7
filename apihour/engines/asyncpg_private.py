"""The names that asyncpg keeps private, and why they are needed.

A query that is cancelled as soon as it was sent may go on: the server looks at the request to
cancel before it has seen the query, and drops it. asyncpg asks once, and waits for the query's
end; here it is asked again.

What asyncpg does for a logger of queries, a generator, a record of eight fields and a turn of the
loop, takes a tenth of a query; here it is two looks at the clock.

tests/apihour/engines/test_asyncpg_private.py fails when a release moves them.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["TimedQuery", "cancel_again", "timed_connection"]

Note = Callable[[float, str, BaseException | None], None]


async def cancel_again(connection: Any) -> None:
    """Ask the server of `connection` once more to cancel what it does. Raises OSError."""
    utilities = importlib.import_module("asyncpg.connect_utils")
    protocol = connection._protocol
    await utilities._cancel(
        loop=asyncio.get_running_loop(), addr=connection._addr, params=connection._params,
        backend_pid=protocol.backend_pid, backend_secret=protocol.backend_secret)


class TimedQuery:
    """``with``: tells `note` how many seconds the query took, what it was, and how it failed."""

    __slots__ = ("_began", "_note", "_query")

    def __init__(self, note: Note, query: str) -> None:
        self._note = note
        self._query = query

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._note(time.monotonic() - self._began, self._query, error)


def timed_connection(base: type[Any], note: Note) -> type[Any]:
    """`base`, asyncpg's class of connections, whose queries tell `note`.

    A connection has to have a logger of queries for that; loggers of the application's are called
    as ever, and so is that one.
    """
    class TimedPostgres(base):  # type: ignore[misc]
        __slots__ = ()

        def _time_and_log(self, query: str, args: Any, timeout: Any) -> Any:
            if len(self._query_loggers) > 1:
                return super()._time_and_log(query, args, timeout)
            return TimedQuery(note, query)

    return TimedPostgres
