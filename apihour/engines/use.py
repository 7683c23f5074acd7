"""One use of a connection: taken, in a transaction if that is wanted, and given back as it was.

Rules:

- It commits when the block ends, and rolls back when that raises: an exception, a cancelled
  request, a timeout.
- What is undone is undone to its end, whoever is cancelled meanwhile; a connection of which that
  is not known is closed, never given to the next.
- Its engine is told what ended it: not all that a library raises passes a statement's own watch,
  as what comes of a cursor's next row, or of a commit.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Protocol

from apihour.engines.driver import Purpose
from apihour.engines.pool import Pool, Slot

__all__ = ["Use", "UseWatcher"]

_UNDOING = 5.0  # seconds that a rollback may take


class UseWatcher(Protocol):
    """Who hears of what went wrong in a use."""

    def see_end(self, error: BaseException) -> None:
        """This has ended a block that had a connection."""

    def see_given_up(self, error: BaseException) -> None:
        """A connection could not be brought back to what it was: it is closed."""


class Use:
    """``async with``: gives the connection."""

    __slots__ = ("_begun", "_pool", "_slot", "_wanted", "_watcher")

    def __init__(self, pool: Pool, wanted: Purpose, watcher: UseWatcher) -> None:
        self._pool = pool
        self._wanted = wanted
        self._watcher = watcher
        self._slot: Slot
        self._begun: Any = None

    async def __aenter__(self) -> Any:
        slot = self._slot = await self._pool.take()
        if self._wanted.transaction:
            try:
                self._begun = await self._pool.driver.begin(slot.connection, self._wanted)
            except BaseException:
                self._pool.drop(slot, at_once=True)
                raise
        return slot.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await self._undo(error)
            return
        driver, connection = self._pool.driver, self._slot.connection
        try:
            if self._wanted.transaction:
                await driver.commit(connection, self._begun)
        except BaseException as failure:
            await self._undo(failure)
            raise
        try:
            await driver.reset(connection)
        except BaseException as failure:
            self._pool.drop(self._slot, at_once=True)
            if not isinstance(failure, Exception):
                raise
            self._watcher.see_given_up(failure)
        else:
            self._pool.release(self._slot)

    async def _undo(self, error: BaseException) -> None:
        self._watcher.see_end(error)
        pool, slot = self._pool, self._slot
        was_cut = not isinstance(error, Exception)
        if not pool.driver.is_open(slot.connection) or (
                was_cut and not pool.driver.survives_cancel):
            pool.drop(slot, at_once=True)
            return
        await asyncio.shield(pool.spawn(self._undone()))

    async def _undone(self) -> None:
        pool, slot = self._pool, self._slot
        try:
            async with asyncio.timeout(_UNDOING):
                await pool.driver.rollback(slot.connection, self._begun)
                await pool.driver.reset(slot.connection)
        except Exception as error:  # its state is not known: closed, the server rolls it back
            pool.drop(slot, at_once=True)
            self._watcher.see_given_up(error)
        else:
            pool.release(slot)
