"""The hops that a header tells of, the nearest first.

Rules:

- They are read from the right: what stands there was written by those who are believed, and
  nothing that stands before it changes what it means.
- The nearest `MOST` are read; whoever sends more gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["MOST", "elements", "entries"]

MOST = 32
# One element and the comma before it, from its end on: the text is read backwards. A quoted
# string (RFC 9110 5.6.4) without quoted pairs: neither addresses nor hosts need them.
_BACKWARDS = re.compile(r'((?:"[^"\\]*"|[^",\\])*)(,|$)')
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# An address with a port has to be quoted (RFC 7239 4), and often is not.
_PAIR = re.compile(rf'[ \t]*(?:({_TOKEN})=([]!#$%&\'*+.:^_`|~0-9A-Za-z[-]+|"[^"\\]*"))?[ \t]*(;|$)')


def _joined(lines: list[bytes]) -> str:
    """Several fields of one name are one list (RFC 9110 5.3)."""
    return b",".join(lines).decode("latin-1")


def entries(lines: list[bytes]) -> list[str]:
    """The entries of ``X-Forwarded-For`` and its like, the nearest hop's first."""
    parts = _joined(lines).rsplit(",", MOST)
    found = [part.strip(" \t") for part in reversed(parts[-MOST:])]
    return [entry for entry in found if entry]


def elements(lines: list[bytes]) -> Iterator[dict[str, str]]:
    """The elements of ``Forwarded`` (RFC 7239 4), the nearest hop's first.

    They end where one is malformed.
    """
    backwards = _joined(lines)[::-1]
    place, count = 0, 0
    while place <= len(backwards) and count < MOST:
        found = _BACKWARDS.match(backwards, place)
        if found is None:
            return
        text = found[1][::-1].strip(" \t")
        if text:
            pairs = _pairs(text)
            if pairs is None:
                return
            count += 1
            yield pairs
        if not found[2]:
            return
        place = found.end()


def _pairs(text: str) -> dict[str, str] | None:
    """The parameters of one element, by lower-case name; None when it is malformed."""
    pairs: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _PAIR.match(text, place)
        if found is None:
            return None
        place = found.end()
        if found[1]:
            name = found[1].lower()
            if name in pairs:
                return None  # RFC 7239 4: once in each element
            pairs[name] = found[2].strip('"')
    return pairs
