"""The body of a request, as a thread reads it (``wsgi.input``), and the errors' stream."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["Body", "Errors", "open_body"]


class Body(io.RawIOBase):
    """What has come of a body, and what is still to come: `ask` waits for the next of it.

    `ask` returns an ASGI message, ``http.request`` or ``http.disconnect``.
    """

    def __init__(self, start: bytes, more: bool, ask: Callable[[], Any]) -> None:
        super().__init__()
        self._rest = memoryview(start)
        self._more = more
        self._ask = ask

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, 0 at the end. Raises ConnectionError when the client has left."""
        while not self._rest and self._more:
            message = self._ask()
            if message["type"] != "http.request":
                raise ConnectionResetError("the client left before its body was whole")
            self._rest, self._more = memoryview(message["body"]), message["more_body"]
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def open_body(start: bytes, more: bool, ask: Callable[[], Any]) -> Any:
    """``wsgi.input`` of a body whose first bytes are `start`; `more`: there are others."""
    return io.BufferedReader(Body(start, more, ask)) if more else io.BytesIO(start)


class Errors(io.TextIOBase):
    """``wsgi.errors``: whole lines go to the server's log."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self._begun = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that `text` completes."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._logger.error("%s", line)
        return len(text)

    def flush(self) -> None:
        """Log a line that has no end yet."""
        begun, self._begun = self._begun, ""
        if begun:
            self._logger.error("%s", begun)
