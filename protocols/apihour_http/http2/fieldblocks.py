"""Header blocks (HPACK, RFC 7541) of answers, encoded.

Rules:

- What we send never enters the client's dynamic table: a block is the same whatever was sent
  before, so fields that repeat are encoded once, and there is no state to keep or to guess
  (RFC 7541 7.1). It costs the wire some fifty bytes an answer.
- A Set-Cookie is marked as one that proxies must not index.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

__all__ = ["block_of", "field", "status_field"]

# RFC 7541 appendix A: the indices of names that answers have.
_NAMES = {
    b"accept-ranges": 18, b"access-control-allow-origin": 20, b"age": 21, b"allow": 22,
    b"cache-control": 24, b"content-disposition": 25, b"content-encoding": 26,
    b"content-language": 27, b"content-length": 28, b"content-location": 29,
    b"content-range": 30, b"content-type": 31, b"date": 33, b"etag": 34, b"expires": 36,
    b"last-modified": 44, b"link": 45, b"location": 46, b"retry-after": 53, b"server": 54,
    b"set-cookie": 55, b"strict-transport-security": 56, b"vary": 59, b"via": 60,
    b"www-authenticate": 61,
}
_STATUSES = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
_WITHOUT_INDEX, _NEVER_INDEXED = 0x00, 0x10  # 6.2.2, 6.2.3


def integer(value: int, bits: int, first: int) -> bytes:
    """An integer with a prefix of `bits`, in a byte that begins as `first` does (5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    value -= most
    out = [first | most]
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


@functools.lru_cache(512)
def field(name: bytes, value: bytes) -> bytes:
    """One field, its name in lower case."""
    first = _NEVER_INDEXED if name == b"set-cookie" else _WITHOUT_INDEX
    index = _NAMES.get(name)
    head = integer(index, 4, first) if index else bytes((first,)) + integer(
        len(name), 7, 0) + name
    return head + integer(len(value), 7, 0) + value


@functools.lru_cache(128)
def status_field(status: int) -> bytes:
    """The pseudo-header of a status."""
    index = _STATUSES.get(status)
    return bytes((0x80 | index,)) if index else b"\x08\x03%d" % status


def block_of(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The header block of an answer."""
    return status_field(status) + b"".join([field(name, value) for name, value in fields])
