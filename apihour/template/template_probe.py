"""The probe that may stay: it imports the application, and forks workers from then on."""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any

from apihour.app.examine import examine
from apihour.books.books import Books
from apihour.books.probe import Probe, begin_probe
from apihour.errors import ConfigurationError
from apihour.template.process import PACKET, serve

__all__ = ["TemplateProbe", "refuse_elsewhere"]


class TemplateProbe(Probe):
    """A probe that stays as the template, if the configuration it has read says so."""

    def __init__(self, books: Books, release: str | None = None) -> None:
        """`release` is the directory of the code, by default that of what is in force."""
        super().__init__(self._examine, self._begin, self._stay)
        self.books = books
        self._release = release
        self._line: socket.socket | None = None
        self._theirs: socket.socket | None = None

    def start(self) -> None:
        """Fork it. Raises OSError when the system has no room for it."""
        self._line, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setblocking(False)
        try:
            super().start()
        except OSError:
            self._close_line()
            raise
        finally:
            self._theirs.close()

    # -- in the child ----------------------------------------------------------------------

    def _begin(self) -> None:
        begin_probe(self.books)
        self._close_line()

    def _examine(self) -> dict[str, list[str]] | None:
        app = self.books.app
        binds: dict[str, list[str]] | None = examine(app, self._release)
        if app.cfg.template:
            refuse_elsewhere()
            assert self._theirs is not None
            self._theirs.send(json.dumps({"threads": threading.active_count()}).encode())
        return binds

    def _stay(self) -> None:
        if self.books.app.cfg.template and threading.active_count() == 1:
            assert self._theirs is not None
            try:
                serve(self.books, self._theirs)
            except Exception:
                self.books.log.exception("Exception in the template")

    # -- in the arbiter --------------------------------------------------------------------

    def hello(self) -> dict[str, Any] | None:
        """What it says of itself before its report when it wants to stay; else None."""
        if self._line is None:
            return None
        try:
            data = self._line.recv(PACKET)
        except (BlockingIOError, ConnectionError):
            return None
        return dict(json.loads(data)) if data else None

    def take_line(self) -> socket.socket:
        """Take over the end of the line to it; it lives as long as that is open."""
        assert self._line is not None
        line, self._line = self._line, None
        return line

    def close(self) -> None:
        super().close()
        self._close_line()

    def _close_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def refuse_elsewhere() -> None:
    if sys.platform != "linux":
        raise ConfigurationError(
            f"--template: refused on {sys.platform!r}; it needs Linux, for workers that were "
            "forked elsewhere to be the arbiter's children"
        )
