"""Metadata and what else the fields of a call say (gRPC over HTTP/2, "Requests", "Responses").

Rules:

- A name that ends with ``-bin`` has bytes, in Base64 without padding on the wire.
- What an application sends is checked before it is sent: a field cannot be split, nor pass for one
  of the protocol's own.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import quote, unquote

from apihour_grpc.status import Pairs

__all__ = ["CallFields", "decoded", "encoded", "message_field", "message_of", "timeout_of"]

CallFields = list[tuple[bytes, bytes]]

_NAME = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# The protocol's, and those of HTTP that say how a message is carried.
_OWN = frozenset({"content-type", "te", "host", "content-length", "connection", "user-agent",
                  "trailer", "date", "transfer-encoding", "upgrade", "keep-alive"})
_SHOWN = frozenset({"user-agent"})  # to the application, of those
_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")  # of grpc-message
_LONGEST = 2048  # characters of a message: the fields of a head have a limit with every client


def timeout_of(value: bytes) -> float | None:
    """Seconds of ``grpc-timeout``; None for what is malformed."""
    found = _TIMEOUT.fullmatch(value)
    return int(found.group(1)) * _UNITS[found.group(2)] if found else None


def decoded(fields: CallFields) -> list[tuple[str, Any]]:
    """The metadata among the fields of a request. Raises ValueError for Base64 that is none."""
    pairs: list[tuple[str, Any]] = []
    for raw, value in fields:
        name = raw.decode("ascii")
        if name.startswith("grpc-") or (name in _OWN and name not in _SHOWN):
            continue
        if not name.endswith("-bin"):
            pairs.append((name, value.decode("latin-1")))
            continue
        for part in value.split(b","):  # several may have been joined
            try:
                pairs.append((name, base64.b64decode(part.strip() + b"=" * (-len(part) % 4))))
            except binascii.Error:
                raise ValueError(f"metadata {name}: expected Base64") from None
    return pairs


def encoded(metadata: Pairs | None) -> CallFields:
    """The fields of an application's metadata. Raises ValueError for what cannot be sent."""
    fields: CallFields = []
    pairs = getattr(metadata, "items", lambda: metadata or ())()
    for name, value in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"metadata {name!r}: expected lower case letters, digits, - _ .")
        if name.startswith("grpc-") or name in _OWN:
            raise ValueError(f"metadata {name!r}: is the protocol's own")
        if name.endswith("-bin"):
            if not isinstance(value, bytes):
                raise ValueError(f"metadata {name}={value!r}: expected bytes")
            fields.append((name.encode(), base64.b64encode(value).rstrip(b"=")))
        elif isinstance(value, str) and _TEXT.fullmatch(value):
            fields.append((name.encode(), value.strip().encode()))
        else:
            raise ValueError(f"metadata {name}={value!r}: expected text of printable ASCII")
    return fields


def message_field(text: str) -> bytes:
    """A text for people as ``grpc-message`` has it: percent-encoded UTF-8."""
    return quote(text[:_LONGEST], safe=_SAFE).encode()


def message_of(value: bytes) -> str:
    """The text of a ``grpc-message``."""
    return unquote(value.decode("latin-1"))
