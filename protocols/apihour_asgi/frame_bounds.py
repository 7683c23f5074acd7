"""Where the frames of a WebSocket begin: the library is handed one at a time, to be known.

Rules:

- Bytes that are whole messages need not go through the library; so they may only be taken where
  it stands between two frames.
- The parts of a frame that is a whole message are held until it is complete, up to the length
  that the library would hold, too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FrameBounds"]

_WHOLE = (0x81, 0x82)  # FIN, and text or binary


class FrameBounds:
    """What hands bytes to the library's `protocol`, frame by frame; `limit` is of a held one."""

    __slots__ = ("_head", "_held", "_limit", "_protocol", "due")

    def __init__(self, protocol: Any, limit: int) -> None:
        self._protocol = protocol
        self._limit = limit
        self.due = 0
        """Bytes of the frame under way that are still to come."""
        self._head = b""
        self._held = bytearray()  # not pieces: a byte at a time they would be many

    def is_between(self) -> bool:
        """Whether the next byte is the first of a frame."""
        return not self.due and not self._head

    def feed(
        self, data: bytes, is_fragmented: bool
    ) -> tuple[bytes | bytearray, bytes]:
        """Hand on one frame, or what there is of it.

        Returns a whole message that is complete now, which was not handed on, and the bytes
        behind the frame. `is_fragmented`: a message in fragments is under way.
        """
        if self._held:
            piece = data[:self.due]
            self._held += piece
        else:
            if not self.due:
                data = self._head + data
                self.due = _extent(data)
                self._head = b"" if self.due else data
                if not self.due:
                    return b"", b""
                if (data[0] in _WHOLE and data[1] & 128 and not is_fragmented
                        and len(data) < self.due <= self._limit):
                    self._held += data
            piece = data[:self.due]
            if not self._held:
                self._protocol.receive_data(piece)
        self.due -= len(piece)
        whole: bytes | bytearray = b""
        if self._held and not self.due:
            whole, self._held = self._held, bytearray()
        return whole, data[len(piece):]

    def feed_rest(self, data: bytes) -> None:
        """Hand on everything: the closing handshake has begun."""
        self._protocol.receive_data(bytes(self._held) + self._head + data)
        self._held, self._head = bytearray(), b""


def _extent(data: bytes) -> int:
    """The bytes of the frame that `data` begins with (RFC 6455 5.2); 0 before that is known."""
    if len(data) < 2:
        return 0
    length, size = data[1] & 127, 6 if data[1] & 128 else 2
    if length > 125:
        wide = 2 if length == 126 else 8
        if len(data) < 2 + wide:
            return 0
        length = int.from_bytes(data[2:2 + wide], "big")
        size += wide
    return size + length
