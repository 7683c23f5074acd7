"""An answer of HTTP/1, as every lane makes it, taken apart for the frames of HTTP/2.

Rules:

- Endpoints' streams, aiohttp and ASGI write what they write on HTTP/1: a head, then a body
  framed by its length, by chunks or by the end of the connection, then trailers. Who made it is
  this house or aiohttp: it is well-formed, and not judged again.
- What only frames or keeps a connection stays here (RFC 9113 8.2.2).
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["AnswerParts", "Reframing"]

_DROPPED = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding",
                      b"upgrade"})
# RFC 9110 15.3.5, 15.4.5: these never have a body.
_BODILESS = (204, 304)
_END = b"\r\n\r\n"
_EMPTY = b"\r\n"

HEAD, LENGTH, CHUNK, CHUNK_DATA, CHUNK_END, TRAILERS, CLOSE, DONE = range(8)


class AnswerParts(Protocol):
    """Who sends the parts."""

    def send_head(self, status: int, fields: list[tuple[bytes, bytes]], is_end: bool) -> None:
        """The head, or an interim one (1xx)."""

    def send_body(self, data: bytes, is_end: bool) -> None:
        """A part of the body."""

    def send_trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """The trailers, which end it."""


class Reframing:
    """Takes one answer apart, in whatever pieces it is written."""

    __slots__ = ("_head_only", "_held", "_left", "_parts", "_state")

    def __init__(self, parts: AnswerParts, head_only: bool) -> None:
        self._parts = parts
        self._head_only = head_only
        self._held = b""
        self._state = HEAD
        self._left = 0

    def is_done(self) -> bool:
        """Whether the answer is whole."""
        return self._state == DONE

    def ends_with_connection(self) -> bool:
        """Whether the end of the body is that of its connection."""
        return self._state == CLOSE

    def close(self) -> None:
        """The connection would end here: so does the body."""
        self._state = DONE
        self._parts.send_body(b"", True)

    def write(self, data: bytes) -> None:
        """Take what would be written to a connection of HTTP/1."""
        if self._held:
            data = self._held + data
            self._held = b""
        while data and self._state == HEAD:
            end = data.find(_END)
            if end < 0:
                self._held = data
                return
            self._head(data[:end])
            data = data[end + 4:]
        if self._state == LENGTH:
            self._sized(data)
        elif self._state == CLOSE:
            if data:
                self._parts.send_body(data, False)
        elif data and self._state != DONE:
            self._chunked(data)

    def _head(self, head: bytes) -> None:
        first, *lines = head.split(_EMPTY)
        status = int(first[9:12])
        fields, length, is_chunked = _fields(lines)
        if 100 <= status < 200:
            self._parts.send_head(status, fields, False)
            return
        if self._head_only or status in _BODILESS or length == 0:
            self._state = DONE
        elif is_chunked:
            self._state = CHUNK
        elif length is None:
            self._state = CLOSE
        else:
            self._state, self._left = LENGTH, length
        self._parts.send_head(status, fields, self._state == DONE)

    def _sized(self, data: bytes) -> None:
        if not data:
            return
        data = data[:self._left]
        self._left -= len(data)
        if not self._left:
            self._state = DONE
        self._parts.send_body(data, not self._left)

    def _chunked(self, data: bytes) -> None:
        """Take chunks (RFC 9112 7.1), whose data leave together."""
        at, size = 0, len(data)
        body: list[bytes] = []
        while at < size and self._state < TRAILERS:
            if self._state == CHUNK_DATA:
                piece = data[at:at + self._left]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = CHUNK_END
                continue
            line = data.find(_EMPTY, at)
            if line < 0:
                break
            if self._state == CHUNK_END:
                self._state = CHUNK
            else:
                self._left = int(data[at:line].partition(b";")[0], 16)
                self._state = CHUNK_DATA if self._left else TRAILERS
            at = line + 2
        self._held = data[at:]
        self._leave(b"".join(body))

    def _leave(self, body: bytes) -> None:
        """Send what came of a chunked body, and its end when that came."""
        held = self._held
        if self._state != TRAILERS or not (held.startswith(_EMPTY) or _END in held):
            if body:
                self._parts.send_body(body, False)
            return
        self._state, self._held = DONE, b""
        if held.startswith(_EMPTY):
            self._parts.send_body(body, True)
            return
        if body:
            self._parts.send_body(body, False)
        self._parts.send_trailers(_fields(held.partition(_END)[0].split(_EMPTY))[0])


def _fields(
    lines: list[bytes],
) -> tuple[list[tuple[bytes, bytes]], int | None, bool]:
    """Fields with names in lower case, the length among them, and whether there are chunks."""
    fields: list[tuple[bytes, bytes]] = []
    length: int | None = None
    is_chunked = False
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name not in _DROPPED:
            fields.append((name, value))
            if name == b"content-length":
                length = int(value)
        elif name == b"transfer-encoding":
            is_chunked = True
    return fields, length, is_chunked
