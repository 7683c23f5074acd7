"""Messages of WebSocket that are one frame each (RFC 6455 5.2): read, and written.

Rules:

- It is a subset, for the common ones: what :func:`messages` stops at, another frame, a part of
  one or a broken one, is for the library that knows all of the protocol.
- The extension does the same, where it is built.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from apihour_http.speed import compiled

__all__ = ["LONGEST", "framed", "messages"]

_TEXT, _BINARY = 0x81, 0x82  # FIN and the opcode
# The first bytes of short frames, by their length.
_HEADS = {first: [bytes((first, size)) for size in range(126)] for first in (_TEXT, _BINARY)}

LONGEST = 2048 if compiled is None else sys.maxsize
"""Bytes of the longest message that :func:`messages` takes: the library unmasks others faster."""

if TYPE_CHECKING or compiled is None:

    def messages(data: bytes | bytearray, limit: int) -> tuple[list[str | bytes], int]:
        """The messages that `data` begins with, and where what is no whole one begins.

        Up to a frame that is not the whole of a text or binary message, as a client masks it, or
        is longer than `limit` bytes, or :data:`LONGEST`, or no UTF-8.
        """
        found: list[str | bytes] = []
        at, size = 0, len(data)
        while size - at >= 6:
            first, length = data[at], data[at + 1] - 128
            if (first != _TEXT and first != _BINARY) or length < 0:
                break
            start = at + 6
            if length > 125:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2:start - 4], "big")
            end = start + length
            if end > size or length > limit or length > LONGEST:
                break
            payload = _unmasked(data[start - 4:start], data[start:end])
            try:
                found.append(str(payload, "utf-8") if first == _TEXT else payload)
            except UnicodeDecodeError:
                break
            at = end
        return found, at

    def framed(message: str | bytes | bytearray | memoryview) -> bytes:
        """The frame of a text or binary message, as a server sends it.

        Raises UnicodeEncodeError for a lone surrogate, TypeError for what is no message.
        """
        if isinstance(message, str):
            first, payload = _TEXT, message.encode()
        else:
            first, payload = _BINARY, bytes(memoryview(message))
        size = len(payload)
        if size < 126:
            head = _HEADS[first][size]
        elif size < 65536:
            head = bytes((first, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, 127)) + size.to_bytes(8, "big")
        return head + payload
else:
    messages, framed = compiled.messages, compiled.framed


def _unmasked(mask: bytes | bytearray, payload: bytes | bytearray) -> bytes:
    size = len(payload)
    key = mask * (size // 4) + mask[:size % 4]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(
        size, "little")
