"""A record of the store, as its file name says it: revision, expiry, and the value or where it is.

``REVISION.EXPIRES.tVALUE`` holds a small value, with what no file name may have escaped,
``REVISION.EXPIRES.vVALUE`` one as base64, of which too much would be that;
``REVISION.EXPIRES.bBLOB.SIZE`` names the blob of a larger one, and ``REVISION.EXPIRES.d`` is a
deletion.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple
from zlib import crc32

__all__ = ["BUCKETS", "RecordHead", "bucket_of", "clock", "cost_of", "parse", "payload_of"]

BUCKETS = 256  # a look at one bucket stays under a millisecond with 30,000 keys
INLINE = 150  # bytes that fit a file name of 255 whatever they are, as base64 in the worst case
_NAME = 216  # bytes of one that are left beside revision and expiry
_ENTRY = 2048  # what a key costs the kernel: two inodes and their names
_BLOB = 1024  # what a blob costs beside its pages
_PAGE = 4096
TEXT, VALUE, POINTER, DELETED = b"t", b"v", b"b", b"d"
# Of a value as it is. The first stands in front of a letter, so what comes of it is no other's.
_ESCAPES = (b"\x01", b"\x01a"), (b"/", b"\x01b"), (b"\0", b"\x01c")


def clock() -> int:
    """Milliseconds of the monotonic clock, which expiries are of."""
    return time.monotonic_ns() // 1_000_000


class RecordHead(NamedTuple):
    """One key at one moment; `revision` of an absent one is the floor of its bucket."""

    place: bytes  # the key's directory
    name: bytes = b""  # of the file in it; empty: there is none
    revision: int = 0
    expires: int = 0  # milliseconds of the monotonic clock; 0: never; a deletion's own time
    kind: bytes = DELETED
    payload: bytes = b""

    @property
    def alive(self) -> bool:
        return self.kind != DELETED and (not self.expires or self.expires > clock())

    @property
    def key(self) -> bytes:
        return self.place.rpartition(b"/")[2]

    @property
    def blob(self) -> bytes:
        return self.payload.partition(b".")[0] if self.kind == POINTER else b""

    @property
    def inline(self) -> bytes | None:
        """The value that the name itself has, None when it is in a blob."""
        if self.kind == TEXT:
            return _unescaped(self.payload)
        return urlsafe_b64decode(self.payload) if self.kind == VALUE else None

    @property
    def cost(self) -> int:
        """Bytes of memory it occupies, as accounted."""
        if self.kind != POINTER:
            return _ENTRY if self.name else 0
        size = int(self.payload.partition(b".")[2])
        return _ENTRY + _BLOB + -(-size // _PAGE) * _PAGE


def bucket_of(key: bytes) -> int:
    return crc32(key) % BUCKETS


def cost_of(size: int) -> int:
    """Bytes of memory an entry with a value of `size` bytes will occupy."""
    return _ENTRY if size <= INLINE else _ENTRY + _BLOB + -(-size // _PAGE) * _PAGE


def payload_of(value: bytes) -> tuple[bytes, bytes] | None:
    """Kind and payload of a name that holds `value`; None when it is too long for one."""
    if len(value) > _NAME:
        return None
    payload = value
    for char, escaped in _ESCAPES:
        payload = payload.replace(char, escaped)
    if len(payload) <= _NAME:
        return TEXT, payload
    return (VALUE, urlsafe_b64encode(value)) if len(value) <= INLINE else None


def _unescaped(payload: bytes) -> bytes:
    if b"\x01" in payload:
        for char, escaped in reversed(_ESCAPES):
            payload = payload.replace(escaped, char)
    return payload


def parse(place: bytes, name: bytes) -> RecordHead:
    """The head that a file `name` in the directory of a key says."""
    revision, expires, rest = name.split(b".", 2)
    return RecordHead(place, name, int(revision), int(expires), rest[:1], rest[1:])
