"""The head of an answer: what an application declared, made fit for the wire.

Rules:

- A field with a control character, or a name that is no token, is an error of the
  application: an answer cannot be split (RFC 9110 5.1, 5.5).
- Framing and persistence are ours: Transfer-Encoding and Connection are understood, and
  written anew, so that an application cannot contradict what is sent.
- Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

__all__ = ["BODILESS", "CLOSE", "Declared", "declare", "status_line"]

# RFC 9110 15.3.5, 15.4.5: these never have content.
BODILESS = frozenset({204, 304})
CLOSE = b"connection: close\r\n"

PLAIN, LENGTH, ENCODING, CONNECTION, DATE, OWN = range(6)
_KINDS = {
    b"content-length": LENGTH, b"transfer-encoding": ENCODING, b"connection": CONNECTION,
    b"date": DATE, b"keep-alive": OWN,
}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
# Spellings remembered at most: an application that invents new ones costs no memory.
_REMEMBERED = 512
_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}


class Declared:
    """The fields of one answer: ``lines`` ready to send, and what they say of the framing."""

    __slots__ = ("chunked", "close", "dated", "length", "lines")

    def __init__(self) -> None:
        self.lines = b""
        self.length: int | None = None
        self.chunked = False
        self.close = False
        self.dated = False


class HeaderKinds(dict[bytes, int]):
    """The kind of each header name by its spelling, checked when it is first met."""

    def __missing__(self, name: bytes) -> int:
        if not isinstance(name, bytes) or not _TOKEN.fullmatch(name):
            raise ValueError(f"header name {name!r}: expected bytes, a token of RFC 9110 5.6.2")
        if len(self) >= _REMEMBERED:
            self.clear()
        kind = self[name] = _KINDS.get(name.lower(), PLAIN)
        return kind


_spellings = HeaderKinds()


def declare(fields: Iterable[Any]) -> Declared:
    """Judge the (name, value) pairs of bytes that an application sends.

    Raises ValueError naming the field that cannot be sent.
    """
    declared = Declared()
    lines = []
    for name, value in fields:
        kind = _spellings[name]
        if kind and not _special(declared, kind, name, value):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    declared.lines = text = b"".join(lines)
    if len(text.translate(None, _CONTROLS)) != len(text) - 2 * len(lines):
        raise ValueError(f"headers {[*fields]!r}: control characters are not allowed")
    return declared


def _special(declared: Declared, kind: int, name: bytes, value: bytes) -> bool:
    """Note what one of the fields that frame an answer says; whether it is sent as it is."""
    if kind == LENGTH:
        if declared.length is not None or not value.isdigit():
            raise ValueError(f"content-length {value!r}: expected one number")
        declared.length = int(value)
        return False
    if kind == DATE:
        declared.dated = True
        return True
    if kind == ENCODING:
        if value.strip().lower() != b"chunked":
            raise ValueError(f"transfer-encoding {value!r}: expected chunked")
        declared.chunked = True
    elif kind == CONNECTION and b"close" in value.lower().replace(b" ", b"").split(b","):
        declared.close = True
    return False


def status_line(status: int) -> bytes:
    """The first line of an answer. Raises ValueError for a status outside 200 to 599."""
    line = _lines.get(status)
    if line is None:
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"status {status!r}: expected 200 to 599")
        line = _lines[int(status)] = b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))
    return line


_lines: dict[int, bytes] = {}
