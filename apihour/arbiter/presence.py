"""How others find this daemon: runtime directory, scoreboard, control socket, pid file.

Rule: an arbiter that is still taking over joins the directory and has a scoreboard of its own;
control socket, instance file and pid file change hands when it serves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from gunicorn.pidfile import Pidfile

from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.config.file_checks import see_pidfile
from apihour.errors import ApihourError, ConfigurationError
from apihour.ipc.bases import unusual
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Figure, Scoreboard
from apihour.orders.control import Control, ControlRequest
from apihour.version import __version__

__all__ = ["Presence", "write_pidfile"]


class Presence(ArbiterPart):
    """What one arbiter has of it."""

    def __init__(self, books: Books, on_request: Callable[[ControlRequest], None]) -> None:
        self.books = books
        self.control: Control | None = None
        self.pidfile: Pidfile | None = None
        self._on_request = on_request

    @property
    def _owner(self) -> tuple[int, int]:
        return self.books.cfg.uid, self.books.cfg.gid

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
                if note := unusual(books.runtime.path.parent, cfg.uid):
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
        if not books.taking_over:
            self._write_pidfile()

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
            self.pidfile = write_pidfile(self.books.cfg.pidfile, self.books.pid)

    def _write_pidfile(self) -> None:
        path = self.books.cfg.pidfile
        if path is None:
            return
        see_pidfile(self.books.cfg)
        pidfile = Pidfile(path)
        try:
            pidfile.create(self.books.pid)
        except OSError as error:
            raise ApihourError(
                f"--pid {path!r}: {error.strerror}; expected a file that can be written"
            ) from error
        except RuntimeError as error:  # another daemon's
            raise ApihourError(f"--pid {path!r}: {error}") from error
        self.pidfile = pidfile

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


def write_pidfile(path: str, pid: int) -> Pidfile:
    """Replace a pid file, whoever it named before."""
    pidfile = Pidfile(path)
    temporary = f"{path}.{pid}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{pid}\n")
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)
    pidfile.pid = pid
    return pidfile
