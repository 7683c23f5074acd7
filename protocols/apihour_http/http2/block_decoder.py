"""Decodes header blocks (HPACK, RFC 7541) of one connection, in their order.

Rules:

- The library hpack has the tables and the Huffman code; what goes over the bytes of every request
  is here, since it costs the library three times as much. A test compares the two.
- What a block unpacks to is bounded while it is unpacked: an index is one byte, and what it stands
  for can be long.
- What was decoded from Huffman's code is remembered by its bytes: clients say the same again.
- Where the extension is, it does the same (``speed/blocks.c``), by the same bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apihour_http.http2.frame_bytes import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    ConnectionBroken,
)
from apihour_http.speed import compiled

__all__ = ["BlockDecoder", "PlainBlockDecoder"]

_TABLE_SIZE = 4096  # RFC 9113 6.5.2: what we have not said otherwise
_ENTRY = 32  # RFC 7541 4.1: what an entry counts beside its name and value
_LONGEST_STATIC = 60  # and one of the static table, at most (appendix A)
_MOST_INTEGER = 1 << 28  # longer ones are of nothing that is taken
# Texts remembered, and their length at most: a peer that invents new ones gains nothing.
_REMEMBERED, _LONGEST = 2048, 256

Pair = tuple[bytes, bytes]


class Texts(dict[bytes, bytes]):
    """What each text in Huffman's code is, decoded when it is first met."""

    def __init__(self, decode: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._decode = decode

    def __missing__(self, code: bytes) -> bytes:
        text = self._decode(code)
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(code) <= _LONGEST:
            self[code] = text
        return text


def _library() -> tuple[list[Pair], Texts]:
    """The static table, from 1 on, and Huffman's code."""
    from hpack.huffman_table import decode_huffman
    from hpack.table import HeaderTable

    static = [(bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE]
    return [(b"", b""), *static], Texts(decode_huffman)


class PlainBlockDecoder:
    """The decoding half of one connection; a head is of `most` bytes, as RFC 9113 counts it."""

    __slots__ = ("_entries", "_limit", "_most", "_size", "_sizes", "_static", "_texts")
    _shared: tuple[list[Pair], Texts] | None = None

    def __init__(self, most: int) -> None:
        cls = PlainBlockDecoder
        if cls._shared is None:
            cls._shared = _library()  # the extra http2: nothing of it is loaded before
        self._static, self._texts = cls._shared
        self._most = most
        self._entries: list[Pair] = []  # the newest last: 62 is the last of all
        self._sizes: list[int] = []  # theirs
        self._size = 0
        self._limit = _TABLE_SIZE

    def decode(self, block: bytes) -> list[Pair]:
        """The fields of a block. Raises ConnectionBroken: the tables are out of step then."""
        try:
            return self._decode(block)
        except ConnectionBroken:
            raise
        except Exception as error:  # of the library, or an index that there is not
            raise _broken(error) from None

    def _decode(self, block: bytes) -> list[Pair]:
        fields: list[Pair] = []
        static, entries, sizes = self._static, self._entries, self._sizes
        at, end, left = 0, len(block), self._most
        while at < end:
            first = block[at]
            at += 1
            if first & 0x80:  # 6.1
                index = first & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, index)
                if index > 61:
                    fields.append(entries[61 - index])
                    left -= sizes[61 - index]
                elif index:
                    fields.append(static[index])
                    left -= _LONGEST_STATIC
                else:
                    raise ValueError("index 0")
            elif first & 0xE0 == 0x20:  # 6.3
                if fields:
                    raise ValueError("a size of the table behind a field")
                at = self._resize(block, at, first & 0x1F)
                continue
            else:
                pair, at = self._literal(block, at, first)
                fields.append(pair)
                left -= len(pair[0]) + len(pair[1]) + _ENTRY
            if left < 0:
                raise ConnectionBroken(ENHANCE_YOUR_CALM, "the request head is too long")
        return fields

    def _literal(self, block: bytes, at: int, first: int) -> tuple[Pair, int]:
        """A field that says its value, and maybe its name (6.2)."""
        most = 0x3F if first & 0x40 else 0x0F
        index = first & most
        if index == most:
            index, at = _integer(block, at, index)
        if index:
            name = self._entries[61 - index][0] if index > 61 else self._static[index][0]
        else:
            name, at = self._text(block, at)
        value, at = self._text(block, at)
        pair = name, value
        if first & 0x40:
            self._add(pair)
        return pair, at

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        """A text (5.2)."""
        first = block[at]
        at += 1
        size = first & 0x7F
        if size == 0x7F:
            size, at = _integer(block, at, size)
        end = at + size
        text = block[at:end]
        if len(text) != size:
            raise ValueError("a text that is cut off")
        return (self._texts[text] if first & 0x80 else text), end

    def _add(self, pair: Pair) -> None:
        """Put an entry into the table, and old ones out of it (4.4)."""
        size = len(pair[0]) + len(pair[1]) + _ENTRY
        self._evict(self._limit - size)
        if size <= self._limit:
            self._entries.append(pair)
            self._sizes.append(size)
            self._size += size

    def _evict(self, limit: int) -> None:
        entries = self._entries
        while entries and self._size > limit:
            del entries[0]
            self._size -= self._sizes.pop(0)

    def _resize(self, block: bytes, at: int, size: int) -> int:
        if size == 0x1F:
            size, at = _integer(block, at, size)
        if size > _TABLE_SIZE:
            raise ValueError(f"a table of {size} bytes: expected at most {_TABLE_SIZE}")
        self._limit = size
        self._evict(size)
        return at


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix is full (5.1)."""
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if value > _MOST_INTEGER or shift > 28:
            raise ValueError("an integer that is too long")
        if not byte & 0x80:
            return value, at
        shift += 7


def _broken(error: Exception) -> ConnectionBroken:
    return ConnectionBroken(COMPRESSION_ERROR, f"a header block: {error}"[:80])


class CompiledBlockDecoder:
    """The same, of the extension."""

    __slots__ = ("_decode",)
    _codes: Any = None

    def __init__(self, most: int) -> None:
        cls = CompiledBlockDecoder
        if cls._codes is None:
            cls._codes = _codes()
        self._decode = compiled.Blocks(most, cls._codes).decode

    def decode(self, block: bytes) -> list[Pair]:
        """The fields of a block. Raises ConnectionBroken: the tables are out of step then."""
        try:
            fields: list[Pair] = self._decode(block)
        except ValueError as error:
            raise _broken(error) from None
        except OverflowError as error:
            raise ConnectionBroken(ENHANCE_YOUR_CALM, str(error)) from None
        return fields


def _codes() -> Any:
    """The library's numbers, for the extension."""
    from hpack.huffman_constants import REQUEST_CODES_LENGTH
    from hpack.table import HeaderTable

    return compiled.Codes(bytes(REQUEST_CODES_LENGTH), tuple(
        (bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE))


BlockDecoder = PlainBlockDecoder if compiled is None else CompiledBlockDecoder
