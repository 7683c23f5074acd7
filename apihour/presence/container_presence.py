"""``container.presence``: who is connected where, on all workers of a daemon or of many machines.

Rules:

- It is kept in ``container.shared``. A worker writes what changes, and one sign of life every 2
  seconds for all whom it has: who is on a worker that is killed, or cut off, is gone after 6.
- An entry is a connection. Somebody who is there twice has two.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from apihour.bus.subjects import matches
from apihour.errors import ApihourError
from apihour.ipc.host_name import host_name
from apihour.presence.presence_entry import (
    PresenceChange,
    PresenceEntry,
    PresenceError,
    pattern_of,
    read_lines,
    subject_of,
    write_line,
)
from apihour.presence.presence_pages import PREFIX, alive_key, is_page_of, page_prefix
from apihour.presence.presence_view import PresenceView, PresenceWatcher
from apihour.presence.presence_writer import PresenceWriter
from apihour.shared.backend import Entry, SharedBackend
from apihour.shared.retiring import end_work

__all__ = ["ContainerPresence"]

Entries = list[PresenceEntry]

_MOST = 100_000  # entries of one worker
_CLEARED = 32  # pages that a look takes away whose worker is gone


class ContainerPresence:
    """What one worker says of its connections, and sees of all.

    Raises PresenceError for what cannot be said, SharedError as ``container.shared`` does.
    """

    def __init__(self, shared: SharedBackend, worker: str) -> None:
        self._shared = shared
        self._place = host_name(), worker
        self._writer = PresenceWriter(shared, *self._place)
        self._numbers = itertools.count(1)
        self._own: dict[str, tuple[int, PresenceEntry]] = {}
        self._view = PresenceView()
        self._watchers: set[PresenceWatcher] = set()
        self._following: asyncio.Task[None] | None = None

    async def join(self, subject: str, who: str, **about: Any) -> PresenceEntry:
        """`who` is at `subject` from now on: all see it when this has returned.

        `about` is anything that JSON can say. Raises PresenceError, SharedError.
        """
        number, since = next(self._numbers), round(time.time(), 3)
        line = write_line(number, who, since, about)
        if len(self._own) >= _MOST:
            raise PresenceError(f"presence: {len(self._own)} entries; expected at most {_MOST} in "
                                "a worker")
        told = read_lines(line)[number][2]  # as others read it, whatever becomes of `about`
        entry = PresenceEntry(subject_of(subject), who, *self._place, since, told,
                              self._writer.id_of(number))
        self._own[entry.id] = number, entry
        try:
            await self._writer.begin()
            await self._writer.add(subject, number, line)
        except BaseException:
            self._own.pop(entry.id, None)
            raise
        return entry

    async def leave(self, entry: PresenceEntry) -> None:
        """That connection has ended; a second time does nothing.

        While the store is away this returns, and it is told when the store is back.
        """
        number, _ = self._own.pop(entry.id, (0, None))
        await self._writer.remove(number)

    @contextlib.asynccontextmanager
    async def enter(self, subject: str, who: str, **about: Any) -> AsyncIterator[PresenceEntry]:
        """:meth:`join` for the time of the block."""
        entry = await self.join(subject, who, **about)
        try:
            yield entry
        finally:
            await self.leave(entry)

    def own(self, pattern: str = ">") -> Entries:
        """The entries of this worker at subjects that match; nobody is asked."""
        pattern_of(pattern)
        return [entry for _, entry in list(self._own.values())
                if matches(pattern, entry.subject)]

    async def list(self, pattern: str = ">") -> Entries:
        """All entries at subjects that match, by subject and time. Raises SharedError."""
        view = PresenceView()
        found = [entry for entry in await self._shared.items(page_prefix(pattern_of(pattern)))
                 if is_page_of(pattern, entry.key)]
        # After the pages: a session has its sign of life before it has any.
        for entry in [*found, *await self._shared.items(alive_key(""))]:
            view.see(entry.key, entry.value)
            await asyncio.sleep(0)  # a page takes half a millisecond
        await self._clear(found, set(view.dead_pages()[:_CLEARED]))
        return sorted(view.all(), key=lambda entry: (entry.subject, entry.since, entry.id))

    async def _clear(self, found: Iterable[Entry], dead: set[str]) -> None:
        """Take away what a killed worker has left, unless it has come to life again."""
        for entry in found:
            if entry.key in dead:
                with contextlib.suppress(ApihourError):  # the next look finds it
                    await self._shared.delete(entry.key, entry.revision)

    async def watch(self, pattern: str = ">") -> AsyncIterator[PresenceChange]:
        """First all who are there, then who comes and who goes, without end.

        Changes that come faster than they are taken cancel each other out. Raises SharedError.
        """
        watcher = PresenceWatcher(pattern_of(pattern))
        if self._following is None:
            self._view = PresenceView()
            self._following = asyncio.ensure_future(self._follow(self._view))
        for entry in self._view.all():
            watcher.see(PresenceChange(True, entry))
        self._watchers.add(watcher)
        try:
            async for change in watcher.tell():
                yield change
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._stop_following()

    async def _follow(self, view: PresenceView) -> None:
        """One watch of the store, for all watches of this worker."""
        error: Exception | None = None
        try:
            async for change in self._shared.watch(PREFIX):
                for one in view.see(change.key, change.value):
                    for watcher in self._watchers:
                        watcher.see(one)
        except Exception as raised:
            error = raised
        self._end_watches(error)

    def _end_watches(self, error: Exception | None = None) -> None:
        self._following = None
        for watcher in self._watchers:
            watcher.end(error)
        self._watchers = set()

    def _stop_following(self) -> None:
        if self._following is not None:
            self._following.cancel()
            self._following = None

    def retire(self, is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
        """The worker retires: watches end that its work iterates, as ``container.bus`` has it."""
        end_work(self._watchers, is_work)

    async def close(self) -> None:
        """Everybody here is gone, watches end. A second time does nothing."""
        self._stop_following()
        self._end_watches()
        await self._writer.close()
