"""The names that psycopg keeps private, and why they are needed.

A query that is cancelled as soon as it was sent may go on: the server looks at the request to
cancel before it has seen the query, and drops it. psycopg asks once, waits for 5 s, and closes the
connection, which the server counts on. Here it is asked again, until the query has ended.

All that it asks of a server passes by ``wait``: rows, copies and commits, too. So a time limit has
its place there, but for the generator ``notifies``, which waits for what others say.
tests/apihour/engines/test_psycopg_private.py fails when a release moves them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

__all__ = ["limited_connection", "patient_connection"]

_HEARD, _LONGEST = 0.05, 1.0  # seconds until it is asked again, doubling


def patient_connection(library: Any) -> type[Any]:
    """The class of connections that ask again; `library` is psycopg."""

    class PatientConnection(library.AsyncConnection):  # type: ignore[misc]
        """psycopg's own."""

        asking: asyncio.Task[None] | None = None

        async def wait(self, *given: Any, **options: Any) -> Any:
            try:
                return await super().wait(*given, **options)
            finally:
                if self.asking is not None:
                    await self._stop_asking()

        async def _try_cancel(self, *, timeout: float = 5.0) -> None:
            self.has_ended = asyncio.Event()
            await super()._try_cancel(timeout=timeout)
            self.asking = asyncio.ensure_future(self._ask_again())

        async def _ask_again(self) -> None:
            patience = _HEARD
            while not self.has_ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await self.has_ended.wait()
                        return
                patience = min(2 * patience, _LONGEST)
                with contextlib.suppress(library.Error):
                    await self.cancel_safe(timeout=_LONGEST)

        async def _stop_asking(self) -> None:
            """A request that is under way has its answer first: the next query is not meant."""
            task, self.asking = self.asking, None
            self.has_ended.set()
            if task is not None:
                await asyncio.wait({task})

    return PatientConnection


def limited_connection(
    library: Any, failed: Callable[[BaseException], None], limit: float | None,
) -> type[Any]:
    """The same that wait up to the limit, in seconds, for each answer, and tell what fails."""

    class LimitedConnection(patient_connection(library)):  # type: ignore[misc]
        """psycopg's own."""

        async def wait(self, asking: Any, *given: Any, **options: Any) -> Any:
            listens = getattr(asking, "__name__", "") == "notifies"
            try:
                async with asyncio.timeout(None if listens else limit):
                    return await super().wait(asking, *given, **options)
            except (library.Error, TimeoutError) as error:
                failed(error)
                raise

    return LimitedConnection
