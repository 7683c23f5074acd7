"""The console's log: where the arbiter's goes, in its format, reopened after a rotation.

Rules:

- ``--error-logfile`` names the file; without one, or where it cannot be opened, lines go to
  the stderr that the arbiter left.
- After a rotation stdout and stderr follow, where they were that file (``--capture-output``).
- What the lines quote (a peer, an exception) does not steer the terminal that shows them.
- A full disk costs lines, and is said once in a while (:class:`apihour.config.log.LostLines`).
"""

from __future__ import annotations

import logging
import os
import sys

from apihour.config.log import LostLines
from apihour.ipc.private import opened_again
from apihour.printable import PrintableFormatter

__all__ = ["ConsoleLog"]

_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"  # gunicorn's, so logs line up
_DATE = "[%Y-%m-%d %H:%M:%S %z]"


class ConsoleLog:
    """Sets the logging of this process up; ``logger`` is the console's own."""

    def __init__(self, level: str = "info", path: str = "-") -> None:
        """`path`: a file, or ``-`` for stderr."""
        self.logger = logging.getLogger("apihour.console")
        self.logger.setLevel(level.upper())
        self._file: logging.FileHandler | None = None
        problem = None
        if path != "-":
            try:
                self._file = logging.FileHandler(path)
            except OSError as error:
                problem = error
        handler = self._file or logging.StreamHandler(sys.stderr)
        handler.setFormatter(PrintableFormatter(logging.Formatter(_FORMAT, _DATE)))
        handler.handleError = LostLines()  # type: ignore[method-assign]
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(logging.WARNING)
        logging.getLogger("asyncssh").setLevel(logging.ERROR)  # a line per scanner is noise
        if problem is not None:
            self.logger.warning("log file %s: %s; it goes to stderr", path, problem.strerror)

    def reopen(self) -> None:
        """Go on in a new file of the same name; the old one, if that fails."""
        handler = self._file
        if handler is None:
            return
        try:
            fresh = opened_again(handler)  # as gunicorn reopens its own
        except OSError as error:
            self.logger.error(
                "log file %s: %s; the old one is kept", handler.baseFilename, error.strerror)
            return
        old = handler.setStream(fresh)
        if old is not None:
            for descriptor in (1, 2):
                if os.path.sameopenfile(old.fileno(), descriptor):
                    os.dup2(fresh.fileno(), descriptor)
            old.close()
