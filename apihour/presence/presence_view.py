"""What the store says of everybody: pages count while their session lives. Pure bookkeeping."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from apihour.bus.subjects import matches
from apihour.presence.presence_entry import PresenceChange, PresenceEntry, PresenceLine, read_lines
from apihour.presence.presence_pages import read_key

__all__ = ["PresenceView", "PresenceWatcher"]


@dataclass
class _Session:
    """One life of one worker; without a place it does not live, or not yet."""

    name: str
    place: tuple[str, str] | None = None  # host, worker
    pages: dict[str, tuple[str, dict[int, PresenceLine]]] = field(default_factory=dict)

    def entries(self, subject: str, lines: dict[int, PresenceLine]) -> Iterator[PresenceEntry]:
        if self.place is not None:
            for number, (who, since, about) in lines.items():
                yield PresenceEntry(subject, who, *self.place, since, about,
                                    f"{self.name}.{number}")

    def all(self) -> Iterator[PresenceEntry]:
        for subject, lines in self.pages.values():
            yield from self.entries(subject, lines)


class PresenceView:
    """The sessions that are known, and the pages of each."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def all(self) -> Iterator[PresenceEntry]:
        """Everybody who is there."""
        for session in self._sessions.values():
            yield from session.all()

    def dead_pages(self) -> list[str]:
        """Keys of pages whose session does not live."""
        return [key for session in self._sessions.values() if session.place is None
                for key in session.pages]

    def see(self, key: str, value: bytes | None) -> list[PresenceChange]:
        """The value that a key has now; what follows from that."""
        found = read_key(key)
        if found is None:
            return []
        session = self._sessions.setdefault(found[0], _Session(found[0]))
        changes = (self._see_page(session, key, found[1], value) if found[1]
                   else self._see_life(session, value))
        if session.place is None and not session.pages:
            del self._sessions[session.name]
        return changes

    def _see_life(self, session: _Session, value: bytes | None) -> list[PresenceChange]:
        if value is None:
            gone = [PresenceChange(False, entry) for entry in session.all()]
            session.place = None
            return gone
        if session.place is not None:
            return []
        session.place = _place(value)
        return [PresenceChange(True, entry) for entry in session.all()]

    def _see_page(
        self, session: _Session, key: str, subject: str, value: bytes | None
    ) -> list[PresenceChange]:
        _, old = session.pages.pop(key, ("", {}))
        new = read_lines(value) if value is not None else {}
        if value is not None:
            session.pages[key] = subject, new
        gone = {number: old[number] for number in old.keys() - new.keys()}
        come = {number: line for number, line in new.items() if number not in old}
        return [
            *(PresenceChange(False, entry) for entry in session.entries(subject, gone)),
            *(PresenceChange(True, entry) for entry in session.entries(subject, come))]


def _place(value: bytes) -> tuple[str, str]:
    try:
        host, worker = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        return "?", "?"  # of another version
    return str(host), str(worker)


class PresenceWatcher:
    """What one watch has still to tell: of each entry the latest, and nothing that cancels out."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._told: set[str] = set()
        self._latest: dict[str, PresenceChange] = {}
        self._there = asyncio.Event()
        self._end: BaseException | None = None
        self._has_ended = False
        self.task: asyncio.Task[Any] | None = None
        """What iterates over it."""

    def see(self, change: PresenceChange) -> None:
        """A change of any entry."""
        entry = change.entry
        if not matches(self._pattern, entry.subject):
            return
        if change.joined == (entry.id in self._told):
            self._latest.pop(entry.id, None)  # as it was when it was last told
        else:
            self._latest[entry.id] = change
            self._there.set()

    def end(self, error: BaseException | None = None) -> None:
        """There is no more, for that reason."""
        self._has_ended, self._end = True, error
        self._there.set()

    async def tell(self) -> AsyncIterator[PresenceChange]:
        """Each change, until the end. Raises what it ended with."""
        while not self._has_ended:
            self.task = asyncio.current_task()
            while self._latest and not self._has_ended:
                change = self._latest.pop(next(iter(self._latest)))
                (self._told.add if change.joined else self._told.discard)(change.entry.id)
                yield change
            self._there.clear()
            if not self._latest and not self._has_ended:
                await self._there.wait()
        if self._end is not None:
            raise self._end
