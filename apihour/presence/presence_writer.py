"""A worker's own entries in the store: a sign of life for all, and pages of those that change.

Rules:

- The sign of life is there before the first page is. It ends by itself, after ``TTL``, and with it
  all that the session has: readers count no page without one.
- Each beat writes it again, if it is as this worker left it. Where it is not (it ended while the
  worker was stopped, the store lost its data, no answer came), all pages are written again: others
  may have cleared them away.
- Pages have a time to live too, much longer, so that nothing is left behind for good. What is
  written at a beat because of it is a small part of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from apihour.errors import ApihourError, RevisionError, SharedError
from apihour.presence.presence_pages import OwnPages, Page, alive_key
from apihour.shared.backend import SharedBackend

__all__ = ["PresenceWriter"]

TTL = 6.0  # seconds after which a worker that says nothing is gone
BEAT = 2.0  # seconds between two signs of life: two of them may be lost
_RETRY = 0.5  # seconds, when one was lost
_PAGE_TTL = 600.0  # seconds that a page is kept when its session has ended without a word
_SPREAD = 20  # beats in which all pages are written again that are half as old
_AT_ONCE = 16  # writes
_CLOSING = 2.0  # seconds


class PresenceWriter:
    """One session: what a worker says from its first entry on until it closes."""

    def __init__(self, shared: SharedBackend, host: str, worker: str) -> None:
        self._shared = shared
        self._session = secrets.token_hex(6)
        self.pages = OwnPages(self._session)
        self.ttl = TTL
        self._life = json.dumps([host, worker]).encode()
        self._revision: int | None = None  # of the sign of life, when that is known
        self._due: dict[str, asyncio.Future[None]] = {}  # keys of pages, told when written
        self._waited_for: set[asyncio.Future[None]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False

    def id_of(self, number: int) -> str:
        """What an entry is called among those of all workers."""
        return f"{self._session}.{number}"

    async def begin(self) -> None:
        """Return once there is a sign of life. Raises SharedError when it cannot be written."""
        if self._is_closed:
            raise _closed()
        self._task("beats", self._beats)
        if self._revision is None:
            await asyncio.shield(self._task("begin", self._beat))

    async def add(self, subject: str, number: int, line: bytes) -> None:
        """Return once the line is in the store. Raises SharedError, and there is none then."""
        written = self._write_soon(self.pages.add(subject, number, line))
        try:
            await asyncio.shield(written)
        except BaseException:  # the caller's own end too: nobody would take the line away
            self._forget(number)
            raise

    async def remove(self, number: int) -> None:
        """Return once the line is out of the store, or the store is away: then later."""
        if (written := self._forget(number)) is not None:
            with contextlib.suppress(ApihourError):
                await asyncio.shield(written)

    async def close(self) -> None:
        """Everything of this session goes at one stroke, and is cleared away."""
        self._is_closed = True
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        for written in self._waited_for.copy():
            _fail(written, _closed())
        with contextlib.suppress(ApihourError, TimeoutError):  # it ends by itself then
            async with asyncio.timeout(_CLOSING):
                if self._tasks:
                    await self._shared.delete(alive_key(self._session))
                for some in _batches([page.key for page in self.pages.all()]):
                    await asyncio.gather(*map(self._shared.delete, some))

    def _task(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """That work, one of its name at a time."""
        if name not in self._tasks or self._tasks[name].done():
            task = self._tasks[name] = asyncio.ensure_future(work())
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._tasks[name]

    # -- the sign of life --------------------------------------------------------------------

    async def _beats(self) -> None:
        while not self._is_closed:
            await asyncio.sleep(_RETRY if self._revision is None else BEAT)
            try:
                await self._beat()
            except Exception as error:
                _see(error)
            else:
                self._refresh()

    async def _beat(self) -> None:
        key, before = alive_key(self._session), self._revision
        self._revision = None
        try:
            self._revision = await self._shared.put(key, self._life, before or 0, self.ttl)
        except RevisionError:
            self._revision = await self._shared.put(key, self._life, None, self.ttl)
            before = None
        if before is None:
            for page in self.pages.all():
                self._write_soon(page)

    def _refresh(self) -> None:
        """Write again what failed, and of what is old a part."""
        self._task("flush", self._flush)
        pages = self.pages.all()
        before = time.monotonic() - _PAGE_TTL / 2
        for page in islice((page for page in pages if page.written < before),
                           len(pages) // _SPREAD + 1):
            self._write_soon(page)

    # -- pages -------------------------------------------------------------------------------

    def _forget(self, number: int) -> asyncio.Future[None] | None:
        page = self.pages.remove(number)
        return None if page is None or self._is_closed else self._write_soon(page)

    def _write_soon(self, page: Page) -> asyncio.Future[None]:
        written = self._due.get(page.key)
        if written is None:
            written = self._due[page.key] = self._promise()
        self._task("flush", self._flush)
        return written

    def _promise(self) -> asyncio.Future[None]:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waited_for.add(written)
        written.add_done_callback(self._waited_for.discard)
        return written

    async def _flush(self) -> None:
        """Write what is due: all that comes meanwhile is the next write of its page."""
        failed: dict[str, asyncio.Future[None]] = {}
        while self._due and not self._is_closed:
            for some in _batches(list(self._due)):
                await asyncio.gather(*(self._write(key, self._due.pop(key), failed)
                                       for key in some))
        self._due |= failed

    async def _write(
        self, key: str, written: asyncio.Future[None], failed: dict[str, asyncio.Future[None]]
    ) -> None:
        page = self.pages.find(key)
        try:
            if page is None:
                await self._shared.delete(key)
            else:
                page.written = time.monotonic()
                await self._shared.put(key, page.value, ttl=_PAGE_TTL)
        except Exception as error:
            if key not in failed:  # one for each page, however often it fails
                failed[key] = self._promise()
            _fail(written, error)
            _see(error)
        else:
            if (late := failed.pop(key, None)) is not None:
                late.set_result(None)
            if not written.done():
                written.set_result(None)


def _fail(written: asyncio.Future[None], error: Exception) -> None:
    if not written.done():
        written.set_exception(error)
        written.exception()  # seen: that nobody waits for it is no fault


def _see(error: Exception) -> None:
    """What the store says is its own to log; the work goes on in any case."""
    if not isinstance(error, ApihourError):
        logging.getLogger("gunicorn.error").error("presence: %r", error, exc_info=error)


def _closed() -> SharedError:
    return SharedError("presence: closed; expected to be used before the end of cleanup()")


def _batches(keys: list[str]) -> list[list[str]]:
    return [keys[start:start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)]
