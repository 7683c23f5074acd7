"""Where the frames of a WebSocket begin: the library is handed one at a time, to be known.

Rule: bytes that are whole messages need not go through the library; so they may only be taken
where it stands between two frames.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FrameBounds"]


class FrameBounds:
    """What hands bytes to the library's `protocol`, frame by frame."""

    __slots__ = ("_head", "due", "protocol")

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.due = 0
        """Bytes of the frame under way that are still to come."""
        self._head = b""

    def is_between(self) -> bool:
        """Whether the next byte is the first of a frame."""
        return not self.due and not self._head

    def feed(self, data: bytes) -> bytes:
        """Hand on one frame, or what there is of it; what is behind it is returned."""
        if not self.due:
            data = self._head + data
            self.due = _extent(data)
            self._head = b"" if self.due else data
            if not self.due:
                return b""
        piece = data[:self.due]
        self.due -= len(piece)
        self.protocol.receive_data(piece)
        return data[len(piece):]

    def feed_rest(self, data: bytes) -> None:
        """Hand on everything: the closing handshake has begun."""
        self.protocol.receive_data(self._head + data)
        self._head = b""


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
