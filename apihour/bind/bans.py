"""Who is refused at the door, for a time: what each worker, and the console, sees of it.

Rules:

- The truth is one file of the runtime directory, see apihour.bind.ban_book, which is imported once
  there is a ban: without one an accepted connection pays a look at nothing.
- When the file cannot be read that is said once, and what was read before holds on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apihour.bind.ban_book import Ban, BanTable

__all__ = ["Bans"]


class Bans:
    """Who is refused now, and how many were."""

    FRESH = 0.2  # seconds for which :meth:`refuses_now` trusts what was read

    def __init__(self, path: Path, logger: logging.Logger) -> None:
        self._path = path
        self._logger = logger
        self._told = ""
        self._seen: tuple[int, int, int] | None = None
        self._looked = 0.0
        self._table: BanTable | None = None
        self.watchers: list[Callable[[], None]] = []
        """Called by :meth:`look` whenever somebody else is banned than before."""
        self.refused: Counter[str] = Counter()
        """Connections refused so far, by network."""

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table)

    def look(self) -> None:
        """Look whether the file is another one, and read it then; one stat(2) if not."""
        self._looked = time.monotonic()
        told = ""
        try:
            self._refresh()
        except (OSError, ValueError, ImportError) as error:
            told = f"bans cannot be read, those known hold on: {error}"
        if told and told != self._told:
            self._logger.error("%s", told)
        self._told = told

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            seen = None
        if seen == self._seen and (self._table is None or self._table):
            return
        table = None
        if seen is not None:
            from apihour.bind.ban_book import BanTable  # read where there has been a ban only

            table = BanTable(self._path)
        self._seen, self._table = seen, table or None
        for watcher in self.watchers:
            watcher()

    def find(self, peer: Any) -> Ban | None:
        """The ban that a peer's socket address falls under now, or None."""
        return None if self._table is None else self._table.find(peer)

    def refuses(self, peer: Any) -> bool:
        """Whether a new connection of that peer is to be refused; counts it."""
        ban = self.find(peer)
        if ban is None:
            return False
        self.refused[ban.network] += 1
        return True

    def refuses_now(self, peer: Any) -> bool:
        """The same, for those that have no heartbeat to look again by."""
        is_stale = time.monotonic() - self._looked > self.FRESH
        if is_stale or self.find(peer) is not None:  # a ban that was ended holds no longer
            self.look()
        return self.refuses(peer)
