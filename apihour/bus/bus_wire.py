"""Frames between the buses of two workers, over a unix socket.

::

    length of what follows, 4 bytes | kind, 1 byte | body

    who connected:     HELLO    its name
                       MESSAGE  number of the question, 4 (0: none) | length of subject, 1 |
                                length of groups, 2 | subject | groups, by spaces | data
                       LOST     how many, 4 | subject (">": of any subject)
                       MARK     number, 4: of a MARK, returned
    who was connected: SUBSCRIBE, UNSUBSCRIBE   queue | space | pattern
                       MARK     number, 4: to be returned; 0: all subscriptions are told
                       ANSWER   number of the question, 4 | data

Integers are in network order. What is received is believed to be of the same user, and no more
than that: a frame that is too long, or that cannot be read, ends the connection.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from struct import error as StructError
from typing import Any

__all__ = [
    "ANSWER", "HELLO", "LOST", "MARK", "MESSAGE", "SUBSCRIBE", "UNSUBSCRIBE", "BusWire",
    "answer_frame", "frame", "message_frame", "numbered", "read_message",
]

HELLO, MESSAGE, LOST, MARK, SUBSCRIBE, UNSUBSCRIBE, ANSWER = range(1, 8)
OUTBOX = 8_000_000  # bytes that may wait for a peer that does not read
_LONGEST = 1_100_000  # bytes of a frame: data, subject and groups
_AT_ONCE = 65536  # bytes written before the turn of the loop ends

_LENGTH = Struct(">I")
_KIND = Struct(">IB")
_NUMBER = Struct(">I")
_NUMBERED = Struct(">IBI")
_MESSAGE = Struct(">IBIBH")
_IN_MESSAGE = Struct(">IBH")


def frame(kind: int, body: bytes) -> bytes:
    """A frame of that kind."""
    return _KIND.pack(len(body) + 1, kind) + body


def numbered(kind: int, number: int, rest: bytes = b"") -> bytes:
    """A frame whose body begins with a number."""
    return _NUMBERED.pack(len(rest) + 5, kind, number) + rest


def answer_frame(number: int, data: bytes) -> bytes:
    """The answer to a question."""
    return numbered(ANSWER, number, data)


def message_frame(subject: bytes, groups: bytes, data: bytes, question: int) -> bytes:
    """A message to the plain subscriptions of a peer, and to one of each of those groups."""
    length = 8 + len(subject) + len(groups) + len(data)
    return _MESSAGE.pack(
        length, MESSAGE, question, len(subject), len(groups)) + subject + groups + data


def read_message(body: bytes) -> tuple[int, str, list[str], bytes]:
    """Question, subject, groups and data. Raises ValueError."""
    question, subject, groups = _IN_MESSAGE.unpack_from(body)
    middle = 7 + subject
    end = middle + groups
    names = body[middle:end].decode().split(" ") if groups else []
    return question, body[7:middle].decode(), names, body[end:]


def number_of(body: bytes) -> tuple[int, bytes]:
    """The number that a body begins with, and the rest. Raises ValueError."""
    return _NUMBER.unpack_from(body)[0], body[4:]


class BusWire(asyncio.Protocol):
    """One end of a connection: frames in, frames out, with a bound for what waits."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._rest = b""
        self._out: list[bytes] = []
        self._out_bytes = 0
        self.is_open = False

    # -- to be written by who inherits ---------------------------------------------------

    def on_frame(self, kind: int, body: bytes) -> None:
        """A frame has come. Raises ValueError when it cannot be read."""
        raise NotImplementedError

    def on_open(self) -> None:
        """It is connected."""

    def on_lost(self, why: str) -> None:
        """It is gone; `why` is empty for a proper end."""

    def on_room(self) -> None:
        """What waited is on its way."""

    # -- sending -------------------------------------------------------------------------

    def put(self, data: bytes, *, is_bounded: bool = True) -> bool:
        """Send a frame at the end of this turn of the loop; False when too much waits."""
        if not self.is_open or (is_bounded and self.waiting + len(data) > OUTBOX):
            return False
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _AT_ONCE:
            self.flush()
        return True

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        waiting: int = self._transport.get_write_buffer_size() if self.is_open else 0
        return waiting + self._out_bytes

    def flush(self) -> None:
        """Hand what waits to the system."""
        if self._out and self.is_open:
            self._transport.write(b"".join(self._out) if len(self._out) > 1 else self._out[0])
        self._out.clear()
        self._out_bytes = 0

    def close(self) -> None:
        """End it, once what waits is sent."""
        if self.is_open:
            self.flush()
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self.is_open:
            self._transport.abort()

    # -- asyncio's -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=OUTBOX // 2, low=OUTBOX // 8)
        self.is_open = True
        self.on_open()

    def resume_writing(self) -> None:
        self.on_room()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self.on_lost(str(error or ""))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        try:
            while end - at > 4:
                length = _LENGTH.unpack_from(data, at)[0]
                if not 1 <= length <= _LONGEST:
                    raise ValueError(f"a frame of {length} bytes")
                if end - at - 4 < length:
                    break
                after = at + 4 + length
                self.on_frame(data[at + 4], data[at + 5:after])
                at = after
        except (ValueError, StructError) as error:
            self._rest = b""
            self.on_lost(f"what it sent cannot be read: {error}")
            self.abort()
            return
        self._rest = data[at:]
