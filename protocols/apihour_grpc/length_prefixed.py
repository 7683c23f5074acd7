"""Length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message"), taken out of a body.

Rules:

- A length is judged before anything of it is kept, and so is what a packed message unpacks to.
- A packed message is kept as it came, and unpacked when the service takes it: what waits is bounded
  by the bytes that came, and of these a thousandth may be enough for a message of any size.
"""

from __future__ import annotations

import zlib

from apihour_grpc.status import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, CallEnded

__all__ = ["ENCODINGS", "MessageReader", "framed"]

ENCODINGS = b"identity,gzip,deflate"
_PREFIX = 5
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}  # of zlib


class Packed(bytes):
    """A message that is compressed, as it came."""


class MessageReader:
    """The messages of one call's body; `most` bytes each."""

    __slots__ = ("_encoding", "_held", "_most", "_wanted")

    def __init__(self, most: int, encoding: bytes) -> None:
        self._most = most
        self._encoding = encoding
        self._held = bytearray()
        self._wanted = _PREFIX

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole with `data`, each for :meth:`opened`. Raises CallEnded."""
        held = self._held
        if not held and len(data) > _PREFIX and not data[0] and (
            int.from_bytes(data[1:5], "big") == len(data) - _PREFIX <= self._most
        ):
            return [data[_PREFIX:]]  # mostly: one message, and all of it
        held += data
        messages: list[bytes] = []
        while len(held) >= self._wanted:
            size = int.from_bytes(held[1:5], "big")
            if size > self._most:
                raise _too_large(size, self._most)
            self._wanted = _PREFIX + size
            if len(held) < self._wanted:
                break
            messages.append((Packed if held[0] else bytes)(held[_PREFIX:self._wanted]))
            del held[:self._wanted]
            self._wanted = _PREFIX
        return messages

    def is_amid(self) -> bool:
        """Whether a message is under way."""
        return bool(self._held)

    def opened(self, message: bytes) -> bytes:
        """A message of :meth:`feed`, unpacked where that is needed. Raises CallEnded."""
        return self._unpacked(message) if type(message) is Packed else message

    def _unpacked(self, message: bytes) -> bytes:
        bits = _WINDOW_BITS.get(self._encoding)
        if bits is None:
            raise CallEnded(INTERNAL if self._encoding in (b"", b"identity") else UNIMPLEMENTED,
                            f"a compressed message: expected grpc-encoding {ENCODINGS.decode()}")
        unpacker = zlib.decompressobj(bits)
        try:
            whole = unpacker.decompress(message, self._most + 1)
        except zlib.error as error:
            raise CallEnded(INTERNAL, f"a compressed message: {error}") from None
        if len(whole) > self._most:
            raise _too_large(len(whole), self._most)
        if not unpacker.eof:
            raise CallEnded(INTERNAL, "a compressed message that is cut off")
        return whole


def framed(message: bytes) -> bytes:
    """A message with its prefix; not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _too_large(size: int, most: int) -> CallEnded:
    return CallEnded(RESOURCE_EXHAUSTED, f"a message of {size} bytes or more: expected at most "
                     f"{most}, the server's max_message")
