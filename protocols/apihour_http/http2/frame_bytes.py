"""The frames of HTTP/2 as bytes, their numbers, and what ends a stream or a connection.

Rules:

- Nothing here keeps a state or does I/O; a size, an id or a code is checked by who reads it.
- An error says whose it is: :class:`StreamBroken` ends one stream, :class:`ConnectionBroken`
  all of them (RFC 9113 5.4).
"""

from __future__ import annotations

from struct import Struct

__all__ = [
    "ACK",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "ENHANCE_YOUR_CALM",
    "FLOW_CONTROL_ERROR",
    "FRAME_HEAD",
    "FRAME_SIZE_ERROR",
    "GOAWAY",
    "HEADERS",
    "INTERNAL_ERROR",
    "LARGEST",
    "MOST_WINDOW",
    "NO_ERROR",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_FLAG",
    "PROTOCOL_ERROR",
    "PUSH_PROMISE",
    "REFUSED_STREAM",
    "RST_STREAM",
    "SETTINGS",
    "STREAM_CLOSED",
    "WINDOW",
    "WINDOW_UPDATE",
    "ConnectionBroken",
    "StreamBroken",
    "data_head",
    "frame",
    "goaway",
    "header_frames",
    "reset",
    "settings",
    "whole_answer",
    "window_update",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # 3.4

# 6: the types of frames.
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE,
 CONTINUATION) = range(10)
# 7: the codes of errors; SETTINGS_TIMEOUT and CONNECT_ERROR are not ours to say.
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, _, STREAM_CLOSED,
 FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, _, ENHANCE_YOUR_CALM) = range(12)
# The flags.
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITY_FLAG = 4, 8, 32

WINDOW = 65535  # 6.9.2: of a connection and of a stream, before anybody says another
MOST_WINDOW = (1 << 31) - 1  # 6.9.1
# 6.5.2: bytes of a frame, before a client says that it takes larger ones. More is no use.
LARGEST = 16384

FRAME_HEAD = Struct(">BHBBL")  # 4.1: 24 bits of length, type, flags, stream
_NUMBER = Struct(">L")
_SETTING = Struct(">HL")
_pack = FRAME_HEAD.pack


class ConnectionBroken(Exception):
    """The connection cannot go on: it ends with `code`, and `reason` for whoever looks."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamBroken(Exception):
    """One stream cannot go on: it is reset with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame; `payload` is shorter than 16 MiB."""
    size = len(payload)
    return _pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def data_head(size: int, is_end: bool, stream: int) -> bytes:
    """What stands before `size` bytes of a body."""
    return _pack(size >> 16, size & 0xFFFF, DATA, is_end, stream)


def header_frames(flags: int, stream: int, block: bytes) -> bytes:
    """A header block: one frame, or as many as it takes (6.10); `flags` has no END_HEADERS."""
    if len(block) <= LARGEST:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    frames = [frame(HEADERS, flags, stream, block[:LARGEST])]
    for at in range(LARGEST, len(block), LARGEST):
        is_last = at + LARGEST >= len(block)
        frames.append(frame(CONTINUATION, END_HEADERS if is_last else 0, stream,
                            block[at:at + LARGEST]))
    return b"".join(frames)


def whole_answer(stream: int, block: bytes, body: bytes) -> bytes:
    """A head and all of a body, neither of more than `LARGEST` bytes."""
    return b"".join((_pack(0, len(block), HEADERS, END_HEADERS, stream), block,
                     _pack(0, len(body), DATA, END_STREAM, stream), body))


def settings(values: dict[int, int]) -> bytes:
    """What is told by SETTINGS (6.5.1)."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(*item) for item in values.items()]))


def window_update(stream: int, size: int) -> bytes:
    """Leave to send `size` bytes more (6.9); `stream` 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(size))


def reset(stream: int, code: int) -> bytes:
    """The end of a stream at once (6.4)."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last: int, code: int, reason: str = "") -> bytes:
    """The end of a connection (6.8): streams beyond `last` were not, and will not be, looked at."""
    text = reason.encode("ascii", "replace")
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last) + _NUMBER.pack(code) + text)
