"""Ways to fork a worker: from the template of its generation if there is one, else from here.

Rule: whichever way, the arbiter is the worker's parent, and the worker begins in
:func:`apihour.books.becoming.become_worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apihour.books.becoming import become_worker
from apihour.books.books import Books
from apihour.books.roles import Forker
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.channel import Channel
from apihour.ipc.signals import fork_blocked
from apihour.worker.process import BLOCKED

__all__ = ["FirstOf", "PlainForker"]


class PlainForker:
    """Forks the arbiter itself; the worker imports the application."""

    def __init__(self, books: Books, shed: Callable[[], None]) -> None:
        """`shed` lets go of what belongs to the arbiter alone, in a child."""
        self._books = books
        self._shed = shed

    def fork(self, record: WorkerRecord, channel: Channel) -> int:
        """Fork with the signals blocked that the arbiter's handlers would swallow in the child.

        The worker lets them through once it has handlers of its own.
        """
        pid = fork_blocked(BLOCKED)
        if pid == 0:
            self._become(record, channel)
        return pid

    def _become(self, record: WorkerRecord, channel: Channel) -> None:
        books = self._books

        def shed() -> None:
            self._shed()
            record.channel.close()

        given = record.assignment(channel, books.scoreboard, books.runtime)
        become_worker(books, given, record.cfg, shed, record.configuration, record.marks())


class FirstOf:
    """Tries one way after the other."""

    def __init__(self, ways: Sequence[Forker]) -> None:
        self._ways = ways

    def fork(self, record: WorkerRecord, channel: Channel) -> int:
        for way in self._ways:
            pid = way.fork(record, channel)
            if pid:
                return pid
        return 0
