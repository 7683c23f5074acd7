"""The arbiter looks after the runtime directory: what vanished from it is made again.

Rules:

- Somebody may remove it, or a file of it, under a living daemon (a cleaner of temporary
  files, an operator, another container that shares the file system). Nothing that serves
  stops for that; shell and ``apihour ctl`` come back by themselves within seconds.
- Each process makes again what is its own: here the directory, its lock, the scoreboard, the
  control socket and the instance file; agents and console do the same with theirs.
- It is said once, and so is a failure to mend it; the values of ``container.shared`` are lost
  with the directory.
- Only the arbiter that owns the daemon makes the directory; one that is still taking over
  follows.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from apihour.books.books import Books
from apihour.errors import ConfigurationError
from apihour.ipc.made_again import make_board, make_runtime
from apihour.orders.control import Control

__all__ = ["RuntimeGuard"]


class RuntimeGuard:
    """What one arbiter does about the directory of its daemon."""

    def __init__(self, books: Books, write_instance: Callable[[], None]) -> None:
        self.books = books
        self._write_instance = write_instance
        self._failure = ""

    def mend(self, control: Control | None) -> None:
        """Make again what is missing; whoever looks calls it until it is there."""
        try:
            self._mend(control)
        except (OSError, ConfigurationError) as error:
            self._say_failure(str(error))
        else:
            self.books.has_room = True
            self._failure = ""

    def _mend(self, control: Control | None) -> None:
        books = self.books
        path = str(books.runtime.scoreboard(books.pid))
        if not books.runtime.is_intact():
            self._mend_directory()
        if not books.scoreboard.is_at(path):
            make_board(books.scoreboard, path, self._owner)
            for worker in books.all_workers():
                if worker.channel_open:
                    worker.channel.send(command="follow", scoreboard=path)
        if control is not None:
            self._mend_control(control)

    @property
    def _owner(self) -> tuple[int, int]:
        return self.books.cfg.uid, self.books.cfg.gid

    def _mend_directory(self) -> None:
        books = self.books
        books.has_room = False
        if books.taking_over:
            books.runtime.join()
            return
        if make_runtime(books.runtime, self._owner):
            books.log.error(
                "Runtime directory %s had vanished; made it again, what container.shared held "
                "is lost", books.runtime.path)

    def _mend_control(self, control: Control) -> None:
        books = self.books
        if not control.is_there():
            control.listen_again()
        if not os.path.lexists(books.runtime.instance_file):
            self._write_instance()

    def _say_failure(self, failure: str) -> None:
        self.books.has_room = False
        if failure != self._failure:
            self._failure = failure
            self.books.log.error(
                "Runtime directory %s has vanished and cannot be made again: %s; without it "
                "there is no shell, no ctl and no container.shared; trying on",
                self.books.runtime.path, failure)
