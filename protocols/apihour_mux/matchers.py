"""What the first bytes of a connection say of its protocol.

Rules:

- A matcher says True, False, or None while it cannot tell yet; it gets all that has come.
- Those here tell by the bytes that every client of the protocol sends first, and no other's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["KNOWN", "Matcher", "MuxEntry"]

Matcher = Callable[[bytes], bool | None]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4
_METHOD = re.compile(rb"[A-Z][A-Z-]{0,23} ?\Z|[A-Z][A-Z-]{0,23} [!-~]")  # RFC 9110 9.1, in use


@dataclass(frozen=True)
class MuxEntry:
    """An entry of a Mux with a matcher of its own.

    `matcher` gets the bytes that have come and returns True when they are `server`'s, False when
    they never will be, None while it cannot tell.
    """

    matcher: Matcher
    server: Any


def begins(*texts: bytes) -> Matcher:
    """Matches what begins with one of `texts`."""

    def matches(data: bytes) -> bool | None:
        if data.startswith(texts):
            return True
        return None if any(text.startswith(data) for text in texts) else False

    return matches


def _http(data: bytes) -> bool | None:
    """HTTP/1: a method and a space (RFC 9112 3); not the preface of HTTP/2."""
    data = data.lstrip(b"\r\n")[:64]  # RFC 9112 2.2
    if _PREFACE.startswith(data[:len(_PREFACE)]):
        return None if len(data) < 6 else False
    if not _METHOD.match(data):
        return False
    return True if b" " in data else None


KNOWN: dict[str, Matcher] = {
    "ssh": begins(b"SSH-"),  # RFC 4253 4.2
    "tls": begins(b"\x16\x03"),  # RFC 8446 5.1: a record of a handshake
    "http2": begins(_PREFACE),
    "http": _http,
}
"""By the name of an entry; asked in this order."""
