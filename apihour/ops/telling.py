"""What of a worker's log the arbiter is told, for ``events`` of the shell: it outlives the worker.

Rules:

- A record with the attribute ``apihour_event`` (``log.error(…, extra={"apihour_event": "job x"})``)
  is told: one line, bounded, without secrets.
- Of what has the same name one line a minute: a job may fail ten times a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from apihour.config.rootlog import text_of
from apihour.errors import one_line
from apihour.excerpt import LINE, excerpt
from apihour.masking import error_text, mask_text

__all__ = ["Teller"]

_PAUSE = 60.0  # seconds between two lines of one name
_NAMES = 1000  # of which it knows when they were told


class Teller(logging.Handler):
    """Hands such records to `send`, the worker's channel: ``send(event="told", what=…)``."""

    def __init__(self, send: Callable[..., Any]) -> None:
        super().__init__()
        self._send = send
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one record."""
        name, now = getattr(record, "apihour_event", None), time.monotonic()
        if name is None or now < self._told.get(name, 0.0):
            return
        if len(self._told) >= _NAMES:
            self._told.clear()
        self._told[name] = now + _PAUSE
        text = str(text_of(record))
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = f"{text}: {error_text(error)}"
        self._send(event="told", what=mask_text(one_line(excerpt(text, LINE))))
