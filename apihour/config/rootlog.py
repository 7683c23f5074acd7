"""Where log records go that nobody has a handler for: to the daemon's own log.

Rules:

- The root logger gets no handler: ``logging.basicConfig(...)``, ``dictConfig()`` and
  ``--log-config`` of an application find it as the standard library leaves it, and win. What
  is replaced is ``logging.lastResort``, which would write bare lines to stderr, and a
  ``basicConfig()`` that asks for nothing: ``logging.warning()`` calls it.
- A line says who speaks: the worker, the server whose connection is being served, the logger.
- Files are those of the daemon's log, so a rotation and a full disk are its business.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["SERVER", "Fallback", "LastResort", "Speaker", "text_of"]

SERVER: contextvars.ContextVar[str] = contextvars.ContextVar("apihour_server", default="")
"""Name of the server whose connection or datagram is being served; empty outside of them."""

_Keep = Callable[[logging.LogRecord], None]


class LastResort(logging.Handler):
    """Stands in for ``logging.lastResort``: gets the records that nobody handles."""

    def __init__(self) -> None:
        super().__init__()
        self.instead = logging.lastResort

    def install(self, level: int, own_level: bool) -> None:
        """Take records from `level` on.

        The root logger lets them through from that level, unless a logging configuration has
        given it one (`own_level`).
        """
        self.setLevel(level)
        if logging.lastResort is not self:
            self.instead, logging.lastResort = logging.lastResort, self
            logging.basicConfig = _unless_bare(logging.basicConfig)
        if not own_level:
            logging.getLogger().setLevel(level)


class Fallback(LastResort):
    """Hands records to the handlers of `log`.

    ``worker`` names the process in the lines, ``1.1``; empty in one that is no worker.
    """

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self.log = log
        self.worker = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record wherever the daemon's lines go."""
        if not self.log.handlers and self.instead is not None:
            self.instead.handle(record)
            return
        told = self._told(record)
        on_root = logging.getLogger().handlers
        for handler in self.log.handlers:
            keep: _Keep | None = getattr(handler, "keep", None)
            if keep is not None:  # the ring, which tells worker and logger by itself
                if handler not in on_root:
                    keep(record)
            elif record.levelno >= handler.level:
                handler.handle(told)

    def _told(self, record: logging.LogRecord) -> logging.LogRecord:
        told = copy.copy(record)
        told.msg, told.args = f"{self._speaker(record)}{text_of(record)}", None
        return told

    def _speaker(self, record: logging.LogRecord) -> str:
        server = SERVER.get()
        return "".join((
            f"Worker {self.worker}: " if self.worker else "",
            f"server {server!r}: " if server else "",
            f"{record.name}: " if record.name != "root" else "",
        ))


class Speaker(logging.Filter):
    """Begins each line of a logger with the worker, and the server it is about."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = f"Worker {worker}: "

    def filter(self, record: logging.LogRecord) -> bool:
        """Change one record, which knows both already when a failure is told."""
        said, server = str(text_of(record)), SERVER.get()
        if not said.startswith("Worker "):
            named = "" if not server or said.startswith("server ") else f"server {server!r}: "
            record.msg, record.args = f"{self._worker}{named}{said}", None
        return True


def _unless_bare(basic_config: Callable[..., None]) -> Callable[..., None]:
    """``logging.basicConfig``; without arguments it leaves the records to the fallback."""
    if hasattr(basic_config, "__wrapped__"):
        return basic_config  # it is so already

    @functools.wraps(basic_config)
    def configure(**options: Any) -> None:
        if options or not isinstance(logging.lastResort, LastResort):
            basic_config(**options)

    return configure


def text_of(record: logging.LogRecord) -> Any:
    """The message of a record; a call with wrong arguments must not raise where it stands."""
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg!r} % {record.args!r}: {type(error).__name__}: {error}"
