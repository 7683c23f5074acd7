"""gunicorn's logger, made safe against a log that cannot be written, and against what is logged.

Rules:

- A full disk costs log lines, never requests and never a flood on stderr; it is said once in a
  while, counted, and over by itself when there is room again.
- What the lines quote does not steer the terminal that shows them; handlers and formatters of
  a logging configuration are their owner's.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from gunicorn.glogging import Logger

from apihour.config.rootlog import Fallback
from apihour.errors import ConfigurationError
from apihour.ipc.private import is_gunicorns
from apihour.printable import PrintableFormatter

__all__ = ["HostLogger", "LostLines", "lost_lines"]

_SAY_EVERY = 10.0  # seconds between two lines on stderr about lost ones


class LostLines:
    """Counts records a handler could not write; stands in for ``Handler.handleError``."""

    def __init__(self) -> None:
        self.count = 0
        self._said = -_SAY_EVERY

    def __call__(self, record: logging.LogRecord) -> None:
        """Called by logging inside the ``except`` of a failed ``emit``."""
        self.count += 1
        now = time.monotonic()
        if now - self._said < _SAY_EVERY or sys.stderr is None:
            return
        self._said = now
        error = sys.exc_info()[1]
        try:
            lines = "1 line" if self.count == 1 else f"{self.count} lines"
            sys.stderr.write(f"apihour: cannot write the log: {error}; {lines} lost\n")
        except OSError:
            return  # stderr may be on the same full disk; the counter has it


class HostLogger(Logger):  # type: ignore[misc]
    """The default ``logger_class``."""

    lost_lines: LostLines
    fallback: Fallback

    def setup(self, cfg: Any) -> None:
        """Set the handlers up as gunicorn does, then make each of them safe.

        Without a logging configuration what nobody handles goes where the daemon's lines go.

        Raises ConfigurationError with one line.
        """
        for option, path in (("--error-logfile", cfg.errorlog),
                             ("--access-logfile", cfg.accesslog)):
            _see_file(option, path)
        if cfg.logconfig_json and not os.path.isfile(cfg.logconfig_json):
            # gunicorn would go on without it.
            raise ConfigurationError(
                f"--log-config-json {cfg.logconfig_json!r}: expected an existing file")
        try:
            super().setup(cfg)
        except Exception as error:
            from apihour.config.log_refusal import log_refusal  # read where one is refused only

            raise log_refusal(cfg, error) from error
        if not hasattr(self, "lost_lines"):
            self.lost_lines = LostLines()
            self.fallback = Fallback(self.error_log)
        self.fallback.install(
            self.loglevel, bool(cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json))
        for logger in (self.error_log, self.access_log, logging.getLogger()):
            for handler in logger.handlers:
                handler.handleError = self.lost_lines  # type: ignore[method-assign]
                inner = handler.formatter
                if is_gunicorns(handler) and inner is not None:
                    handler.setFormatter(PrintableFormatter(inner))


def lost_lines(log: Any) -> int:
    """Records that a logger could not write so far; one of another class counts none."""
    counted = getattr(log, "lost_lines", None)
    return counted.count if isinstance(counted, LostLines) else 0


def _see_file(option: str, path: str | None) -> None:
    """See that a log can be written; gunicorn would not say which of the two cannot."""
    if path is None or path == "-":
        return
    try:
        with open(path, "a", encoding="utf-8"):
            return
    except OSError as error:
        raise ConfigurationError(f"{option} {path!r}: {error.strerror}; "
                                 "expected a file that can be written") from error
