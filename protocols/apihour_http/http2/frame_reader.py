"""Cuts what a connection reads into frames, and puts header blocks together.

Rules:

- A frame that is longer than we said we take ends the connection before it is kept (4.2).
- A header block is nothing but its frames, one behind the other (6.10). How many and how long
  they may be is bounded: CONTINUATION has no flow control.
"""

from __future__ import annotations

from apihour_http.http2.frame_bytes import (
    CONTINUATION,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_HEAD,
    FRAME_SIZE_ERROR,
    HEADERS,
    PADDED,
    PROTOCOL_ERROR,
    ConnectionBroken,
)

__all__ = ["MAX_FRAME", "FrameReader", "unpadded"]

# Bytes of a frame's payload that are taken: what 6.5.2 says without a setting.
MAX_FRAME = 16384
_HEAD = FRAME_HEAD.size
# Frames of one header block: a client needs as many as fill a frame each.
_MOST_FRAMES = 16
_unpack = FRAME_HEAD.unpack_from

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload."""


class FrameReader:
    """What came of one connection, and is not handled yet."""

    __slots__ = ("_at", "_block", "_block_frames", "_block_size", "_data", "_first", "_most_block",
                 "_partial", "_wanted")

    def __init__(self, most_block: int) -> None:
        self._data = b""
        self._at = 0
        self._partial = bytearray()  # of a frame, not copied before all of it is there
        self._wanted = _HEAD
        self._most_block = most_block
        self._first: tuple[int, int] | None = None  # flags and stream of a block under way
        self._block: list[bytes] = []
        self._block_size = self._block_frames = 0

    def feed(self, data: bytes) -> None:
        """Take a read."""
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return
            data = bytes(self._partial)
            self._partial.clear()
        elif self._at < len(self._data):
            data = self._data[self._at:] + data
        self._data, self._at = data, 0

    def is_amid(self) -> bool:
        """Whether a frame or a header block is under way."""
        return bool(self._partial) or self._first is not None

    def partial_size(self) -> int:
        """Bytes of a frame or of a header block that is under way."""
        return len(self._partial) + self._block_size

    def take(self) -> Frame | None:
        """The next frame, None when more must come first; a header block is one HEADERS frame.

        Raises ConnectionBroken.
        """
        while True:
            data, at = self._data, self._at
            left = len(data) - at
            if left < _HEAD:
                self._keep(_HEAD)
                return None
            high, low, kind, flags, stream = _unpack(data, at)
            size = high << 16 | low
            if size > MAX_FRAME:
                raise ConnectionBroken(
                    FRAME_SIZE_ERROR, f"a frame of {size} bytes: expected at most {MAX_FRAME}")
            if left < _HEAD + size:
                self._keep(_HEAD + size)
                return None
            start = at + _HEAD
            self._at = end = start + size
            stream &= 0x7FFFFFFF  # 4.1: the first bit is ignored
            payload = data[start:end]
            if self._first is None and kind < CONTINUATION and (
                kind != HEADERS or flags & END_HEADERS
            ):
                return kind, flags, stream, payload
            if self._first is None and kind > CONTINUATION:
                return kind, flags, stream, payload
            whole = self._assemble(kind, flags, stream, payload)
            if whole is not None:
                return whole

    def _keep(self, wanted: int) -> None:
        if self._at < len(self._data):
            self._partial += self._data[self._at:]
            self._wanted = wanted
        self._data, self._at = b"", 0

    def _assemble(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        """A piece of a header block; the whole of it as one HEADERS frame, if it is the last."""
        if self._first is None:
            if kind != HEADERS:
                raise ConnectionBroken(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
            block = unpadded(flags, payload)
            # What is left of it has neither padding nor priority; both were looked at.
            self._first = flags & ~PADDED, stream
            self._block = [block]
            self._block_size, self._block_frames = len(block), 1
        else:
            if kind != CONTINUATION or stream != self._first[1]:
                raise ConnectionBroken(PROTOCOL_ERROR, "expected CONTINUATION of the same stream")
            self._block.append(payload)
            self._block_size += len(payload)
            self._block_frames += 1
        if self._block_size > self._most_block or self._block_frames > _MOST_FRAMES:
            raise ConnectionBroken(ENHANCE_YOUR_CALM, "a header block that does not end")
        if not flags & END_HEADERS:
            return None
        (first, _), self._first = self._first, None
        whole = b"".join(self._block)
        self._block = []
        self._block_size = 0
        return HEADERS, first | END_HEADERS, stream, whole


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding. Raises ConnectionBroken (6.1)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroken(PROTOCOL_ERROR, "padding that is longer than its frame")
    return payload[1:len(payload) - payload[0]]
