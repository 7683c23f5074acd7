"""How others find this daemon: runtime directory, scoreboard, control socket, pid file.

Rule: an arbiter that is still taking over joins the directory and has a scoreboard of its own;
control socket, instance file and pid file change hands when it serves.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.errors import ConfigurationError
from apihour.ipc.bases import base_directory
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Figure, Scoreboard
from apihour.orders.control import Control
from apihour.version import __version__

if TYPE_CHECKING:
    from gunicorn.pidfile import Pidfile

    from apihour.arbiter.guard import RuntimeGuard
    from apihour.orders.requesters import ControlRequest

__all__ = ["Presence"]

_LOOK_EVERY = 1.0  # seconds between two looks whether all is there; one costs four of stat(2)


class Presence(ArbiterPart):
    """What one arbiter has of it."""

    def __init__(self, books: Books, on_request: Callable[[ControlRequest], None]) -> None:
        self.books = books
        self.control: Control | None = None
        self.pidfile: Pidfile | None = None
        self._on_request = on_request
        self._next_look = 0.0

    @property
    def _owner(self) -> tuple[int, int]:
        return self.books.cfg.uid, self.books.cfg.gid

    def advance(self) -> None:
        """Once a second: see whether everything is there, and have it made again if not."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            if not self._is_whole():
                self._guard.mend(self.control)

    def _is_whole(self) -> bool:
        books = self.books
        return (books.has_room and books.runtime.is_intact()
                and books.scoreboard.is_at(str(books.runtime.scoreboard(books.pid)))
                and (self.control is None or (self.control.is_there()
                     and os.path.lexists(books.runtime.instance_file))))

    @functools.cached_property
    def _guard(self) -> RuntimeGuard:
        """From the first thing on that has vanished."""
        from apihour.arbiter.guard import RuntimeGuard

        return RuntimeGuard(self.books, self.write_instance)

    def watched(self) -> Mapping[int, Callable[[], None]]:
        return self.control.watched() if self.control is not None else {}

    def shed(self) -> None:
        if self.control is not None:
            self.control.close_inherited()

    def begin(self) -> None:
        """Make the runtime directory, or join that of the arbiter before. Raises ApihourError."""
        books, cfg = self.books, self.books.cfg
        try:
            if books.taking_over:
                books.runtime.join()
            else:
                books.runtime = Runtime.create(cfg.uid, cfg.gid, books.pid)
                if (base := books.runtime.path.parent) != base_directory(cfg.uid):
                    from apihour.ipc.taken_bases import unusual

                    if note := unusual(base, cfg.uid):
                        books.log.warning("%s", note)
            path = str(books.runtime.scoreboard(books.pid))
            books.scoreboard = Scoreboard.create(path, self._owner)
            books.scoreboard.set_figure(Figure.ARBITER, books.pid)
            books.scoreboard.set_figure(Figure.STARTED, time.time())
            books.scoreboard.set_figure(Figure.GENERATION, books.generation)
            if not books.taking_over:
                self._own()
        except OSError as error:
            raise ConfigurationError(
                f"runtime directory {str(books.runtime.path)!r}: {error.strerror}; expected room "
                "for a few hundred kB") from error
        if cfg.pidfile is not None and not books.taking_over:
            from apihour.arbiter.pid_file import create_pidfile

            self.pidfile = create_pidfile(cfg, books.pid)

    def _own(self) -> None:
        """Become the arbiter that others find: control socket and instance file."""
        path = str(self.books.runtime.arbiter_socket)
        self.control = Control(path, self._owner, self._on_request)
        self.write_instance()

    def write_instance(self) -> None:
        """Say in the runtime directory who this daemon is. Raises OSError."""
        books = self.books
        facts = {
            "pid": books.pid, "target": books.app.target,
            "directory": books.app.working_directory(),
            "name": books.proc_name, "version": __version__,
            "started": books.scoreboard.figure(Figure.STARTED),
            "console": not books.cfg.no_console,
        }
        books.runtime.write_instance(facts, self._owner)

    def take_over(self) -> None:
        """After an upgrade: every wanted worker is ready, so become the daemon's arbiter."""
        self._own()
        if self.books.cfg.pidfile is not None:
            from apihour.arbiter.pid_file import replace_pidfile

            self.pidfile = replace_pidfile(self.books.cfg, self.books.pid)

    def unlink_pidfile(self) -> None:
        if self.pidfile is not None:
            self.pidfile.unlink()

    def undo(self) -> None:
        """After a failed start: leave nothing of ours, and all of the arbiter before."""
        books = self.books
        if self.control is not None:
            self.control.close()
        self.unlink_pidfile()
        if hasattr(books, "runtime") and not books.taking_over:
            books.runtime.remove()
        elif books.has_runtime:
            books.runtime.scoreboard(books.pid).unlink(missing_ok=True)

    def end(self, owns: bool) -> None:
        """The daemon stops: remove what is ours, and the directory if it `owns` the daemon."""
        if self.control is not None:
            self.control.close()
        self.books.runtime.scoreboard(self.books.pid).unlink(missing_ok=True)
        if owns:
            self.books.runtime.remove()
