"""Text of unknown origin, made fit for a log or a terminal: nothing in it steers either.

Rules:

- The message of an exception, and what an application logs, may quote a peer. Control
  characters in it are escaped as Python writes them, so that what was there can still be read:
  an Escape would move the cursor of whoever looks at the log.
- Newlines and tabs stay: tracebacks have them.
"""

from __future__ import annotations

import logging
import re

__all__ = ["PrintableFormatter", "printable"]

# C0 (but tab and newline), DEL, C1, the marks that reorder or hide text (UAX #9), and lone
# surrogates, which no file takes.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with its control characters escaped: ``\\x1b`` for an Escape."""
    return _STEERING.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


class PrintableFormatter(logging.Formatter):
    """Formats as `inner` does, tracebacks included, and escapes the result."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record, or its lines."""
        return printable(self.inner.format(record))
