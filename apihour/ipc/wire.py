"""The one wire format between console, arbiter, agents and ``apihour ctl``.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON, one object:

- request: ``{"id": 1, "command": "stack", "arguments": {...}, "role": "observer",
  "deadline": 2.0}`` (`deadline`: seconds the caller waits);
- replies, in any order between ids: ``{"id": 1, "result": ...}`` once, or any number of
  ``{"id": 1, "item": ...}`` and then ``{"id": 1, "end": true}``, or
  ``{"id": 1, "error": "one line", "kind": "role|unknown|usage|failed|timeout",
  "detail": "traceback"}``;
- ``{"id": 1, "cancel": true}`` from the caller stops a request that is under way.

Rules: no I/O here; a frame over the limit is an error of the sender, never buffered.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAXIMUM", "FrameError", "Framer", "encode"]

MAXIMUM = 32 * 1024 * 1024  # bytes; a profile of a large worker is the largest thing sent
_HEADER = 4


class FrameError(ValueError):
    """The peer sent something that is not a frame; the connection must be closed."""


def encode(message: dict[str, Any]) -> bytes:
    """Return the frame of one message. Raises FrameError when it is too large."""
    body = json.dumps(message, separators=(",", ":"), default=str).encode()
    if len(body) > MAXIMUM:
        raise FrameError(f"message of {len(body)} bytes; expected at most {MAXIMUM}")
    return len(body).to_bytes(_HEADER, "big") + body


class Framer:
    """Bytes in, messages out."""

    def __init__(self, maximum: int = MAXIMUM) -> None:
        self._buffer = bytearray()
        self._maximum = maximum

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take received bytes, return the messages they complete. Raises FrameError."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER:
            length = int.from_bytes(self._buffer[:_HEADER], "big")
            if length > self._maximum:
                raise FrameError(f"frame of {length} bytes; expected at most {self._maximum}")
            if len(self._buffer) < _HEADER + length:
                break
            body = bytes(self._buffer[_HEADER : _HEADER + length])
            del self._buffer[: _HEADER + length]
            messages.append(_decode(body))
        return messages


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise FrameError(f"frame is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise FrameError(f"frame holds {type(message).__name__}; expected an object")
    return message
