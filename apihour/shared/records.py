"""A record of the store, as its file name says it: revision, expiry, and the value or where it is.

``REVISION.EXPIRES.vVALUE`` holds a small value (base64), ``REVISION.EXPIRES.bBLOB.SIZE`` names
the blob of a larger one, and ``REVISION.EXPIRES.d`` is a deletion.
"""

from __future__ import annotations

import time
from typing import NamedTuple
from zlib import crc32

__all__ = ["BUCKETS", "RecordHead", "bucket_of", "clock", "cost_of", "parse"]

BUCKETS = 256  # a look at one bucket stays under a millisecond with 30,000 keys
INLINE = 150  # bytes that fit a file name of 255 as base64, beside revision and expiry
_ENTRY = 2048  # what a key costs the kernel: two inodes and their names
_BLOB = 1024  # what a blob costs beside its pages
_PAGE = 4096
VALUE, POINTER, DELETED = b"v", b"b", b"d"


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
    def cost(self) -> int:
        """Bytes of memory it occupies, as accounted."""
        if not self.name:
            return 0
        if self.kind != POINTER:
            return _ENTRY
        size = int(self.payload.partition(b".")[2])
        return _ENTRY + _BLOB + -(-size // _PAGE) * _PAGE


def bucket_of(key: bytes) -> int:
    return crc32(key) % BUCKETS


def cost_of(size: int) -> int:
    """Bytes of memory an entry with a value of `size` bytes will occupy."""
    return _ENTRY if size <= INLINE else _ENTRY + _BLOB + -(-size // _PAGE) * _PAGE


def parse(place: bytes, name: bytes) -> RecordHead:
    """The head that a file `name` in the directory of a key says."""
    revision, expires, rest = name.split(b".", 2)
    return RecordHead(place, name, int(revision), int(expires), rest[:1], rest[1:])
