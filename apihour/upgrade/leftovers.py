"""Files in the runtime directory of processes that were killed: who follows removes them.

Rules:

- An arbiter removes its scoreboard, and what its dead workers left, by itself. One that was
  killed, in an upgrade say, cannot: the arbiter that owns the daemon does, when nobody holds
  the lock and no worker writes in it any more.
- What is young is left alone: it may be just being made.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.ipc.daemons import scoreboards
from apihour.ipc.holds import is_locked
from apihour.ipc.scoreboard import Scoreboard

__all__ = ["Leftovers", "look_for_leftovers"]

_LOOK_EVERY = 5.0  # seconds between two looks
_YOUNG = 5.0  # seconds for which a file may be without a holder, a worker without a heartbeat


class Leftovers(ArbiterPart):
    """What one arbiter does about them."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._next_look = 0.0

    def advance(self) -> None:
        """Every few seconds: remove what is nobody's."""
        now = time.monotonic()
        if now < self._next_look or self.books.taking_over:
            return
        self._next_look = now + _LOOK_EVERY
        workers: set[int] = set()
        for pid, path in scoreboards(self.books.runtime):
            heard, last = _workers(path)
            if (pid == self.books.pid or now - last < _YOUNG or is_locked(path)
                    or not _is_old(path)):
                workers |= heard
            else:
                path.unlink(missing_ok=True)
        for pid, path in self._workers_files():
            if pid not in workers and _is_old(path):
                path.unlink(missing_ok=True)

    def _workers_files(self) -> Iterator[tuple[int, Path]]:
        for path in self.books.runtime.path.glob("worker.*.*"):
            pid = path.name.split(".")[1]
            if pid.isdigit():
                yield int(pid), path


def look_for_leftovers(books: Books) -> None:
    """There is, or was, another arbiter: look from now on."""
    if not any(isinstance(part, Leftovers) for part in books.parts):
        books.parts.append(Leftovers(books))


def _workers(path: Path) -> tuple[set[int], float]:
    """The workers in a scoreboard, and when one of them wrote last."""
    try:
        board = Scoreboard.open(str(path))
    except (OSError, ValueError):
        return set(), 0.0
    try:
        records = [(int(row.pid), row.heartbeat) for row in board.active()]
    finally:
        board.close()
    return {pid for pid, _ in records}, max((beat for _, beat in records), default=0.0)


def _is_old(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - os.lstat(path).st_mtime > _YOUNG
    return False
