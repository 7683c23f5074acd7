"""Where a parser that keeps what it read too much is to be stopped, and trailers it hides.

Rules:

- A head and a chunked body both end with an empty line, and nowhere else but after one; a
  sized body ends where its length says. So a piece that goes up to the next of these never
  goes beyond the message at hand, and the parser still decides where that ends.
"""

from __future__ import annotations

import re

from apihour_http.errors import BadRequest

__all__ = ["EMPTY_LINE", "Pieces", "trailers"]

EMPTY_LINE = b"\r\n\r\n"
# RFC 9112 7.1: the last chunk's line; a trailer's name is a token, which has no semicolon.
_LAST_CHUNK = re.compile(rb"0+[ \t]*(?:;.*)?")
# Bytes kept of the end of a chunked body: its trailers must fit in.
_KEPT = 16384


class Pieces:
    """Cuts what a connection reads into pieces that end no later than a message does."""

    __slots__ = ("_is_chunked", "_last", "_left", "is_fresh")

    def __init__(self) -> None:
        self.is_fresh = True
        """Whether nothing is under way: the next piece is a head, from its first byte on."""
        self._is_chunked = False
        self._left = 0  # bytes of a sized body
        self._last = b""  # the end of what came before, an empty line may lie across

    def begin(self, is_chunked: bool, length: str) -> None:
        """A head is complete: `length` is the value of its Content-Length, if there is one."""
        self._is_chunked = is_chunked
        self._left = int(length) if length.isdigit() and not is_chunked else 0
        self._last = b""
        self.is_fresh = not is_chunked and not self._left

    def next(self, data: bytes, start: int) -> bytes:
        """The piece of `data` that begins at `start`."""
        self.is_fresh = False
        if self._left:
            piece = data[start:start + self._left]
            self._left -= len(piece)
            return piece
        before = self._last[-3:]
        found = (before + data[start:start + 4]).find(EMPTY_LINE) if before else -1
        if found >= 0:
            end = start + found + 4 - len(before)
        else:
            found = data.find(EMPTY_LINE, start)
            end = found + 4 if found >= 0 else len(data)
        piece = data[start:end]
        self._last = (self._last + piece)[-_KEPT if self._is_chunked else -3:]
        return piece

    def end(self) -> bytes:
        """The last bytes of the chunked message that is complete."""
        last, self._last, self._is_chunked = self._last, b"", False
        return last


def trailers(end: bytes) -> list[tuple[bytes, bytes]]:
    """The trailers among the last bytes of a chunked message.

    Raises BadRequest when they are longer than what is kept.
    """
    found: list[tuple[bytes, bytes]] = []
    for line in reversed(end.removesuffix(EMPTY_LINE).split(b"\r\n")):
        if _LAST_CHUNK.fullmatch(line):
            return found[::-1]
        name, _, value = line.partition(b":")
        found.append((name, value.strip(b" \t")))
    raise BadRequest("the trailers are too long", 431)
