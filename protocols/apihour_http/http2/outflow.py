"""What one connection sends: frames at once, bodies as the client's windows and socket allow.

Rules:

- Frames of one turn of the loop leave in one write.
- A stream sends a frame, then the next stream has its turn: priorities are not looked at
  (RFC 9113 5.3.2 has them deprecated), and no stream can starve another.
- While the transport takes nothing, bodies wait in their streams, and those are told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from apihour_http.http2.frame_bytes import (
    END_STREAM,
    FLOW_CONTROL_ERROR,
    LARGEST,
    MOST_WINDOW,
    WINDOW,
    ConnectionBroken,
    data_head,
    header_frames,
    whole_answer,
)

__all__ = ["Outflow", "Sender"]

# Bytes that are written at once, at most: the transport then says whether it takes more.
_AT_ONCE = 65536

class Sender(Protocol):
    """A stream that sends a body."""

    id: int
    window: int
    """Bytes that the client takes of it; below 0 where it has taken some back."""
    pending: deque[memoryview]
    """What waits."""
    ending: bool
    """Whether nothing comes behind what waits."""
    trailers: bytes | None
    """The header block behind it."""

    def moved(self, size: int) -> None:
        """So many bytes have left."""

    def output_ended(self) -> None:
        """All of it has left."""


class Outflow:
    """The sending half of one connection."""

    __slots__ = ("_due", "_loop", "_out", "_ready", "_size", "_write", "initial", "paused",
                 "window")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, write: Callable[[bytes], None],
    ) -> None:
        self.window = WINDOW
        self.initial = WINDOW  # of each new stream
        self.paused = False
        self._loop = loop
        self._write = write
        self._out: list[bytes] = []
        self._size = 0
        self._due = False
        self._ready: dict[Sender, None] = {}  # those that have something, and a window

    # -- frames

    def send(self, data: bytes) -> None:
        """Send whole frames, at the end of this turn of the loop."""
        self._out.append(data)
        self._size += len(data)
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def cork(self) -> None:
        """Whoever sends from now on flushes by itself."""
        self._due = True

    def flush(self) -> None:
        """Write what is due."""
        self._due = False
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._size = 0
            self._write(data)

    # -- bodies

    def whole(self, stream: Sender, block: bytes, body: bytes) -> bool:
        """Send a head and all of a body at once; False where that cannot be."""
        size = len(body)
        if (self.paused or size > self.window or size > stream.window or size > LARGEST
                or len(block) > LARGEST):
            return False
        self.window -= size
        stream.window -= size
        self.send(whole_answer(stream.id, block, body))
        return True

    def body(self, stream: Sender, data: bytes, is_end: bool) -> None:
        """Send `data` as part of the body of `stream`; `is_end` when it is the last."""
        size = len(data)
        stream.ending = is_end
        if not stream.pending and (not size or (
            not self.paused and size <= self.window and size <= stream.window and size <= LARGEST
        )):
            last = is_end and stream.trailers is None
            if size or last:
                self.window -= size
                stream.window -= size
                self.send(data_head(size, last, stream.id) + data)
            self._sent(stream, size)
        else:
            if size:
                stream.pending.append(memoryview(data))
            self.go_on(stream)

    def go_on(self, stream: Sender) -> None:
        """Send what waits in `stream`, as far as that is possible."""
        if stream.pending:
            self._ready[stream] = None
            self.pump()
        elif stream.ending:
            self.body(stream, b"", True)

    def drop(self, stream: Sender) -> None:
        """Send no more of it."""
        stream.pending.clear()
        self._ready.pop(stream, None)

    def pump(self) -> None:
        """Send what waits, a frame of each stream in turn."""
        ready = self._ready
        while ready and not self.paused and self.window > 0:
            stream = next(iter(ready))
            del ready[stream]
            if stream.window > 0:
                self._send_frame(stream)
            if self._size > _AT_ONCE:
                self.flush()

    def _send_frame(self, stream: Sender) -> None:
        pending = stream.pending
        room = min(stream.window, self.window, LARGEST)
        piece = pending.popleft()
        if len(piece) > room:
            pending.appendleft(piece[room:])
            piece = piece[:room]
        size = len(piece)
        last = stream.ending and not pending and stream.trailers is None
        self.window -= size
        stream.window -= size
        self.send(data_head(size, last, stream.id) + bytes(piece))
        if pending:
            self._ready[stream] = None
        self._sent(stream, size)

    def _sent(self, stream: Sender, size: int) -> None:
        if stream.pending or not stream.ending:
            stream.moved(size)
            return
        if stream.trailers is not None:
            self.send(header_frames(END_STREAM, stream.id, stream.trailers))
        stream.moved(size)
        stream.output_ended()

    # -- windows

    def widen(self, size: int) -> None:
        """The client takes `size` bytes more on the connection. Raises ConnectionBroken (6.9.1)."""
        self.window += size
        if self.window > MOST_WINDOW:
            raise ConnectionBroken(FLOW_CONTROL_ERROR, "a window of the connection over 2**31 - 1")
        self.pump()
