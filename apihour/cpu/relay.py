"""Log records of a process that computes for a worker: they go where the worker's go.

Rules:

- Records that nobody handles there are sent to the worker, which treats them as its own: its
  handlers, its files and their rotation. A logging configuration made in the process itself wins.
- Only plain values are sent, whatever a record holds; a worker that is gone loses them.
- A reader is a thread of its own: whoever writes must not wait for a loop.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from multiprocessing.connection import Connection
from typing import Any

from apihour.config.rootlog import LastResort, text_of

__all__ = ["RelayReader", "relay_records"]

_PLAIN = (
    "name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName",
    "created", "msecs", "relativeCreated", "thread", "threadName", "process", "processName",
    "stack_info",
)
_DRAIN = 1.0  # seconds that the last records of a process that ended may take


class _Relay(LastResort):
    """Sends records through a pipe."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe
        self._traceback = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; logging holds the handler's lock meanwhile."""
        plain = {name: getattr(record, name, None) for name in _PLAIN}
        plain["msg"] = str(text_of(record))
        if record.exc_info:
            plain["exc_text"] = self._traceback.formatException(record.exc_info)
        with contextlib.suppress(OSError):  # the worker has ended, and this process with it
            self._pipe.send(plain)


def relay_records(pipe: Connection, level: int) -> None:
    """In the process: send what nobody handles, from `level` on, through `pipe`."""
    _Relay(pipe).install(level, own_level=False)


class RelayReader:
    """In the worker: logs what comes through a pipe, until its other end is closed."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, name="run_cpu log", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the last record of a process that has ended is logged, 1 s at most."""
        self._thread.join(_DRAIN)

    def _read(self) -> None:
        with self._pipe, contextlib.suppress(EOFError, OSError):
            while True:
                _log(self._pipe.recv())


def _log(plain: dict[str, Any]) -> None:
    record = logging.makeLogRecord(plain)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
