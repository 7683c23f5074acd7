"""The bytes of one direction, from a socket to a socket.

Rules:

- What is there is read until there is no more, or others are due: edges are told once.
- Nothing more is read while something waits to be written: the kernel's buffers are all there is.
- Small messages are copied, by one buffer that all flows of a worker share; where much comes at
  once it is moved by the kernel (splice(2)), which costs a third of the time.
- The end of the source becomes the end of the sink, and of nothing else (RFC 9293 3.6).
- A sink that takes no more does not end the other direction, whose bytes may say why: what still
  comes from the source is discarded meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

from apihour_proxy.pipes import SIZE, Pipes
from apihour_proxy.poller import ENDS, Poller

__all__ = ["BUFFER", "Flow", "Machinery"]

BUFFER = 1 << 18  # bytes that are copied at once
_TURNS = 4  # reads in a row, before others have their turn
_MUCH = 1 << 16  # bytes of one read from which on the kernel moves what comes next
_LITTLE = 1 << 14  # bytes moved at once below which copying is cheaper


class Machinery:
    """What the flows of a worker have in common."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.pipes = Pipes()
        self.poller = Poller(loop)

    def close(self) -> None:
        """End it; connections have."""
        self.pipes.close()
        self.poller.close()


class Flow:
    """Moves what comes from `source` to `sink`; `pair` hears of its end, and of what breaks it.

    `moved` counts bytes, and so does the attribute `figure` of `upstream`, ``sent`` or
    ``received``.
    """

    __slots__ = ("_held", "_is_ending", "_is_sent", "_pair", "_pipe", "_rest", "_shared",
                 "_source", "_splices", "_upstream", "discards", "is_cut", "is_over", "moved",
                 "sink", "waits")

    def __init__(
        self, shared: Machinery, source: socket.socket, sink: socket.socket, pair: Any,
        upstream: Any, figure: str,
    ) -> None:
        self._shared = shared
        self._source = source
        self.sink = sink
        self._pair = pair
        self._upstream = upstream
        self._is_sent = figure == "sent"
        self._rest: memoryview | None = None
        self._pipe: tuple[int, int] | None = None
        self._held = 0  # bytes in the pipe
        self._splices = False
        self._is_ending = False  # whether an end or a reset stands behind what is there
        self.moved = 0
        self.is_over = False
        """Whether the source has ended, or the sink takes no more."""
        self.is_cut = False
        """Whether it was the sink."""
        self.discards = False
        """Whether the source may still have something, for nobody."""
        self.waits = False
        """Whether something stands here until the sink takes more."""

    def readable(self, events: int) -> None:
        """The source has something."""
        if events & ENDS:
            self._is_ending = True
        self.read()

    def read(self) -> None:
        """Move what there is."""
        if self.waits:
            return
        if self.is_over:
            if self.discards:
                self._discard()
        elif self._splices:
            self._splice()
        else:
            self._copy()

    def writable(self) -> None:
        """The sink takes more."""
        rest, self._rest = self._rest, None
        self.waits = False
        if rest is None:
            if not self._empty():
                return
            self._return_pipe()
        elif not self.send(rest):
            return
        self.read()

    def end(self) -> None:
        """Leave both sockets alone; they are about to be closed."""
        self._pair = self._rest = None
        self.is_over = True
        self.discards = self.waits = False
        self._return_pipe()

    # -- by copying

    def _copy(self, splices: bool = True) -> None:
        shared = self._shared
        for _ in range(_TURNS):
            try:
                size = self._source.recv_into(shared.buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._pair.source_broke(self)
                return
            if not size:
                self.finish()
                return
            if not self.send(shared.view[:size]):
                return
            if size >= _MUCH and splices:
                self._splices = True
                self._splice()
                return
            if size < BUFFER and not self._is_ending:
                return  # that was all (epoll(7), questions and answers 9)
        shared.poller.again(self.read)

    def send(self, data: memoryview) -> bool:
        """Whether the sink took all of it; what it did not, is kept."""
        try:
            sent = self.sink.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._sink_closed()
            return False
        self._count(sent)
        if sent == len(data):
            return True
        rest = data[sent:]
        self._rest = memoryview(bytes(rest)) if data.obj is self._shared.buffer else rest
        self.waits = True
        return False

    def _count(self, size: int) -> None:
        self.moved += size
        if self._is_sent:
            self._upstream.sent += size
        else:
            self._upstream.received += size

    # -- by the kernel

    def _splice(self) -> None:
        pipe = self._pipe = self._shared.pipes.take()
        if pipe is None:
            self._splices = False
            self._copy(False)
            return
        size = SIZE
        for _ in range(_TURNS):
            last = size
            try:
                size = os.splice(self._source.fileno(), pipe[1], SIZE)
            except (BlockingIOError, InterruptedError):
                self._splices = last >= _LITTLE
                self._return_pipe()
                return
            except OSError:
                self._pair.source_broke(self)
                return
            if not size:
                self._return_pipe()
                self.finish()
                return
            self._held = size
            if not self._empty():
                return
        self._return_pipe()
        self._shared.poller.again(self.read)

    def _empty(self) -> bool:
        """Move what is in the pipe; whether that was all."""
        assert self._pipe is not None
        while self._held:
            try:
                sent = os.splice(self._pipe[0], self.sink.fileno(), self._held)
            except (BlockingIOError, InterruptedError):
                self.waits = True
                return False
            except OSError:
                self._sink_closed()
                return False
            self._held -= sent
            self._count(sent)
        return True

    def _return_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            held, self._held = self._held, 0
            (self._shared.pipes.drop if held else self._shared.pipes.give)(pipe)

    # -- the end

    def finish(self) -> None:
        """The source sends no more: nor does the sink's peer get more."""
        self.is_over = True
        if not self._pair.close_if_over():
            with contextlib.suppress(OSError):  # it is gone: the other direction finds out
                self.sink.shutdown(socket.SHUT_WR)

    def _sink_closed(self) -> None:
        """The sink takes no more."""
        self.waits = False
        self._rest = None
        self._return_pipe()
        self.is_over = self.is_cut = self.discards = True
        self._shared.poller.again(self.read)
        self._pair.close_if_over()

    def _discard(self) -> None:
        for _ in range(_TURNS):
            try:
                size = self._source.recv_into(self._shared.buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                size = 0
            if not size:
                self.discards = False
                self._pair.close_if_over()
                return
        self._shared.poller.again(self.read)
