"""The last log records of a worker, kept for whoever logs in.

Rules: bounded in records and in length; formatting happens once, when the record is made;
being attached changes nothing of what else is printed.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from dataclasses import dataclass

__all__ = ["LogRing", "Logged"]

_RECORDS = 1000
_LENGTH = 4000  # characters of one message; a traceback fits


@dataclass(frozen=True)
class Logged:
    """One record; `number` counts from 1 in each worker, `time` is a time of day."""

    number: int
    time: float
    level: int
    logger: str
    message: str


class LogRing(logging.Handler):
    """A handler that remembers."""

    def __init__(self, records: int = _RECORDS) -> None:
        super().__init__()
        self.records: deque[Logged] = deque(maxlen=records)
        self._numbers = itertools.count(1)
        self._loggers: list[logging.Logger] = []

    def attach(self, *loggers: logging.Logger | None) -> None:
        """Listen to these."""
        for logger in loggers:
            if logger is not None:
                logger.addHandler(self)
                self._loggers.append(logger)

    def detach(self) -> None:
        """Listen to none."""
        while self._loggers:
            self._loggers.pop().removeHandler(self)

    def keep(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.records.append(Logged(
            next(self._numbers), record.created, record.levelno, record.name,
            self._text(record)[:_LENGTH],
        ))

    def tell(self, text: str) -> None:
        """Keep a line of another process's log, which is written there."""
        self.keep(logging.makeLogRecord({
            "name": "apihour.events", "levelno": logging.ERROR, "msg": text}))

    def latest(self, after: int = 0, level: int = 0, logger: str = "") -> list[Logged]:
        """Records after that number, of `level` and above, of that logger and those below it."""
        return [
            one for one in list(self.records)
            if one.number > after and one.level >= level
            and (not logger or one.logger == logger or one.logger.startswith(logger + "."))
        ]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; when nobody else has a handler for it, it is printed as without."""
        self.keep(record)
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._is_alone(record.name):
            last.handle(record)

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:
            # A log call with wrong arguments must not raise where it stands.
            return f"{record.msg!r} % {record.args!r}: {type(error).__name__}: {error}"

    def _is_alone(self, name: str) -> bool:
        """Whether without this handler nobody would have handled records of that logger."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True
