"""What stores in another program, on other machines, have in common.

Rules:

- Every call ends within the deadline: with the answer, or with a SharedDownError, after which a
  write may have been done or not. Its steps have that time together: asyncio.wait_for (3.11) gives
  back an answer that comes in the turn of the timeout, which then has passed unseen.
- A watch tells each key's last state, whatever happened to the connection: after each loss it
  looks at everything again, and tells what is different from what it has told.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar
from urllib.parse import quote

from apihour.errors import SharedDownError, SharedError
from apihour.ipc.task_end import end_task
from apihour.shared.away_lines import AwayLines
from apihour.shared.backend import (
    Change,
    CompareAndSet,
    Entry,
    SharedStatistics,
    Update,
    check_deadline,
)
from apihour.shared.leases import Leases
from apihour.shared.retiring import end_work
from apihour.shared.stored_cache import StoredCache

__all__ = ["News", "RemoteShared"]

Given = TypeVar("Given")

_END: ContextVar[float] = ContextVar("end of the call", default=math.inf)  # of the loop's clock


class RemoteShared(CompareAndSet):
    """The part that no engine does differently."""

    where = ""
    """The engine, as messages name it."""
    down: tuple[type[Exception], ...] = ()
    """What its library raises when it cannot be reached."""

    def __init__(self, path: str | os.PathLike[str], deadline: float) -> None:
        check_deadline(deadline)
        self.deadline = deadline
        self._path = os.fspath(path)
        self._is_closed = False
        self._lines = AwayLines()
        self.heard = time.monotonic()  # of it, at the last answer
        self._news: set[News] = set()

    async def open(self, seconds: float = 2.0) -> None:
        """Reach the engine within `seconds`, and see that it can do what is needed.

        Raises ConfigurationError naming what it cannot, SharedDownError when it is away.
        """
        raise NotImplementedError

    async def start(self) -> None:
        """Reach it before anything is accepted; one that is away is tried again by each call.

        Raises ConfigurationError as :meth:`open`.
        """
        try:
            await self.open()
        except SharedDownError as error:
            logging.getLogger("gunicorn.error").error(
                "%s; the worker serves without it, and goes on trying", error)

    def cache(self, name: str, entries: int, size: int) -> StoredCache:
        """See :meth:`SharedBackend.cache`: in the store itself, whose engine bounds it."""
        return StoredCache(self, name, entries, size)

    def leases(self, name: str, limit: int) -> Leases:
        """See :meth:`SharedBackend.leases`: of this daemon alone, for the kernel keeps them."""
        return Leases(os.path.join(self._path, "leases", quote(name, safe="")), limit)

    async def update(self, key: str, change: Update, ttl: float | None = None) -> Entry:
        """See :meth:`SharedBackend.update`; two deadlines, for it reads and writes."""
        end = asyncio.get_running_loop().time() + 2 * self.deadline
        outer = _END.set(min(end, _END.get()))
        try:
            return await super().update(key, change, ttl)
        finally:
            _END.reset(outer)

    async def items(self, prefix: str = "") -> list[Entry]:
        raise NotImplementedError

    def watch(self, prefix: str = "") -> AsyncIterator[Change]:
        raise NotImplementedError

    def statistics(self) -> SharedStatistics:
        """Raises SharedError."""
        raise SharedError(f"{self.where}: statistics: only the embedded store counts; expected "
                          "the engine's own monitoring")

    def check_open(self) -> None:
        """Raises SharedError when it is closed."""
        if self._is_closed:
            raise SharedError(f"{self.where}: closed")

    async def within(
        self, call: Awaitable[Given], seconds: float | None = None, proves: bool = True
    ) -> Given:
        """The answer of the engine. Raises SharedDownError when there is none in time.

        A step within another has what that one has left, at most. `proves`: whether the answer says
        that the engine is there.
        """
        limit = self.deadline if seconds is None else seconds
        end = min(asyncio.get_running_loop().time() + limit, _END.get())
        outer = _END.set(end)
        try:
            async with asyncio.timeout_at(end):
                given = await call
        except TimeoutError:
            self._say("no answer in time")
            raise SharedDownError(f"{self.where}: no answer within {limit:g} s") from None
        except self.down as error:
            if not self.has_answered(error):
                self._say(f"{error or type(error).__name__}")
            raise SharedDownError(f"{self.where}: {error or type(error).__name__}") from error
        finally:
            _END.reset(outer)
        if proves:
            self._say("")
            self.heard = time.monotonic()
        return given

    def has_answered(self, error: Exception) -> bool:
        """Whether that is an answer, and no sign that the engine is away."""
        return False

    def _say(self, what: str) -> None:
        """Log that it is away, once, and that it is back."""
        if line := self._lines.line(what):
            logging.getLogger("gunicorn.error").warning("%s: %s", self.where, line)

    async def tell(
        self, follow: Callable[[News], Coroutine[None, None, None]]
    ) -> AsyncIterator[Change]:
        """Each change that `follow` hears of, until the store is closed."""
        self.check_open()
        news = News()
        self._news.add(news)
        following = asyncio.ensure_future(follow(news))
        following.add_done_callback(lambda task: news.end())
        try:
            async for change in news.tell():
                yield change
            if following.done() and (error := following.exception()) is not None:
                raise SharedError(f"{self.where}: a watch failed: {error!r}") from error
        finally:
            self._news.discard(news)
            await end_task(following)

    def retire(self, is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
        """See :meth:`SharedBackend.retire`."""
        end_work(self._news, is_work)

    async def close(self) -> None:
        """See :meth:`SharedBackend.close`. A second time does nothing."""
        if not self._is_closed:
            self._is_closed = True
            for news in list(self._news):
                news.end()
            await self.let_go()

    async def let_go(self) -> None:
        """Close the connections."""
        raise NotImplementedError


class News:
    """What one watch has to tell: the latest of each key, and nothing twice."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._latest: dict[str, Change] = {}
        self._there = asyncio.Event()
        self._has_ended = False
        self.task: asyncio.Task[Any] | None = None
        """What iterates over it."""

    def see(self, key: str, value: bytes | None, revision: int) -> None:
        """The state of a key, which may be known; `revision` of a removal: at least the last."""
        known = self._latest.get(key)
        if known is not None and known.revision > revision:
            return
        told = self._told.get(key)
        if value is None and told is None:
            self._latest.pop(key, None)  # it came and went
        elif value is None and told is not None:
            self._latest[key] = Change(key, None, max(revision, told))
            self._there.set()
        elif told is None or told < revision:
            self._latest[key] = Change(key, value, revision)
            self._there.set()

    def see_all(self, entries: list[Entry]) -> None:
        """All that there is at this moment: what is not among it is gone."""
        there = {entry.key for entry in entries}
        for key in [*self._told, *self._latest]:
            if key not in there:
                known = self._latest.get(key)
                self.see(key, None, known.revision if known else self._told[key])
        for entry in entries:
            self.see(entry.key, entry.value, entry.revision)

    def end(self) -> None:
        """There is no more."""
        self._has_ended = True
        self._there.set()

    async def tell(self) -> AsyncIterator[Change]:
        """Each change, without end."""
        while not self._has_ended:
            self.task = asyncio.current_task()
            while self._latest and not self._has_ended:
                key = next(iter(self._latest))
                change = self._latest.pop(key)
                if change.value is None:
                    self._told.pop(key, None)
                else:
                    self._told[key] = change.revision
                yield change
            self._there.clear()
            if not self._latest and not self._has_ended:
                await self._there.wait()
