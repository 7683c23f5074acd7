"""How a stream is sent: at the pace of its client, to its end, or to that of the client.

Rules:

- It runs in the task of its endpoint. The next piece is asked for when the transport takes
  more, so what waits for a client is one piece beyond the transport's own buffer.
- RFC 9112 7.1 and 6.3: chunked for HTTP/1.1, HTTP/1.0 reads until the connection closes; a
  length that is known is told, and held.
- A stream that fails after its head is cut off without a last chunk: nobody takes it for whole.
- An iterator that never waits gives the others their turn.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Protocol

from apihour_http.direct import answer_any, log_request
from apihour_http.side import Side
from apihour_http.streaming.outgoing import Outgoing, can_send

__all__ = ["Sending"]

# Seconds that one stream may take of a turn of the loop.
_BUDGET = 0.002


class Source(Protocol):
    """What is sent: see :class:`apihour_http.streaming.stream.Stream`."""

    status: int
    headers: list[tuple[str, str]]
    body: Any
    endless: bool
    heartbeat: float
    opens: bool
    length: int | None
    done: Any

    def encode(self, piece: Any) -> bytes:
        """The bytes of one piece."""

    def beat(self) -> bytes:
        """What is sent after a silence."""

    def goodbye(self) -> bytes:
        """What is sent at last when the server drains."""


class Sending(Side):
    """One stream on its way."""

    __slots__ = ("_chunked", "_counted", "_ending", "_head_at", "_last", "_request", "_room",
                 "_size", "_task", "_timer", "_turn", "_wrote", "source")

    def __init__(self, lane: Any, request: Any, source: Source) -> None:
        super().__init__(lane)
        self._request = request
        self.source = source
        self._chunked = bool(request.modern) and source.length is None
        self._last = False  # whether the head said that the connection closes
        self._head_at = 0.0  # when it was sent
        self._counted = False
        self._size = 0
        self._ending = False  # whether the server drains
        self._task: asyncio.Task[Any] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wrote = self._turn = 0.0

    async def run(self) -> None:
        """Send all of it, and do what is due after an answer."""
        lane = self.lane
        self._task = asyncio.current_task()
        lane.flush()
        self.take()
        try:
            if lane.transport is not None:
                await self._send()
        except asyncio.CancelledError:
            if self._head_at and not self._counted:
                self._account()  # somebody cancelled it
            lane.abort()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.give_back()
            self._task = None
            await self._close_body()
            if self.source.done is not None:
                self.source.done()

    async def _send(self) -> None:
        try:
            if self._request.verb == b"HEAD":
                self._open()
            else:
                await self._pieces()
                last = self.source.goodbye() if self._ending else b""
                self._check_length(len(last), is_end=True)
                self._write(last)
        except Exception as error:
            self._fail(error)
        else:
            self._finish()

    async def _pieces(self) -> None:
        """Send the pieces, until there are no more or the server drains."""
        source, lane = self.source, self.lane
        if source.heartbeat:
            self._timer = lane.loop.call_later(source.heartbeat, self._beat)
        if source.opens:
            self._open()
            if lane.is_draining():
                self._ending = source.endless
                return
        self._turn = monotonic()
        try:
            if hasattr(source.body, "send_to") and can_send(lane):
                await self._send_file(source.body)
            async for piece in source.body:
                if lane.transport is None:
                    return  # it went on although it was cancelled
                self._write(source.encode(piece))
                await self._wait_for_room()
        except asyncio.CancelledError:
            if not self._ending or lane.transport is None:
                raise
        if self._ending and self._task is not None:
            self._task.uncancel()

    async def _send_file(self, file: Any) -> None:
        """Let the kernel send a file; what it is shorter by than was promised is found after."""
        lane, transport = self.lane, self.lane.transport
        self._open()
        transport.set_write_buffer_limits(0)
        try:
            await self._wait_for_room()  # the head has left
            with Outgoing(lane) as socket:
                while lane.transport is not None:
                    try:
                        sent = file.send_to(socket.fd)
                    except BlockingIOError:
                        await socket.wait_writable()
                        continue
                    except ConnectionError:
                        lane.abort()
                        await lane.loop.create_future()  # cancelled when that is told
                    if not sent:
                        return
                    self._size += sent
                    await self._wait_for_room()
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    # -- bytes

    def _open(self) -> None:
        """Send the head. Raises ValueError for a header that would break the message."""
        lane, request, length = self.lane, self._request, self.source.length
        self._last = last = not request.keep or not (self._chunked or length is not None) or (
            lane.service.now.closes and lane.is_last())
        lines = f"Content-Length: {length}\r\n" if length is not None else ""
        if self._chunked:
            lines = "Transfer-Encoding: chunked\r\n"
        if last:
            lines += "Connection: close\r\n"
        elif not request.modern:
            lines += "Connection: keep-alive\r\n"
        lane.write(lane.service.renderer.head(self.source, lines))
        self._head_at = self._wrote = monotonic()

    def _write(self, data: bytes) -> None:
        """Send a piece, and the head before the first; an empty chunk would be the last."""
        lane = self.lane
        if lane.transport is None:
            return
        self._check_length(len(data))
        if not self._head_at:
            self._open()
        if data:
            self._size += len(data)
            lane.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            self._wrote = monotonic()

    def _check_length(self, more: int, is_end: bool = False) -> None:
        """Raise ValueError where it is not as long as was promised."""
        size, length = self._size + more, self.source.length
        if length is not None and (size > length or (is_end and size < length)):
            raise ValueError(f"a stream of {size} bytes{'' if is_end else ' or more'}: expected "
                             f"length={length}")

    def _beat(self) -> None:
        """Send a sign of life, unless something was sent of late or is not taken."""
        lane = self.lane
        now = monotonic()
        due = self._wrote + self.source.heartbeat
        if now >= due:
            if not lane.write_paused:
                self._write(self.source.beat())
            due = now + self.source.heartbeat
        self._timer = lane.loop.call_later(due - now + 0.001, self._beat)

    async def _wait_for_room(self) -> None:
        """Return when the client takes more, and the others have had their turn."""
        lane = self.lane
        if lane.write_paused:
            while lane.write_paused and lane.transport is not None:
                self._room = lane.loop.create_future()
                await self._room
        elif monotonic() - self._turn < _BUDGET:
            return
        else:
            await asyncio.sleep(0)
        self._turn = monotonic()

    # -- its end

    def _fail(self, error: Exception) -> None:
        """The iterator raised: before the head that is an answer, after it the end."""
        lane = self.lane
        result = lane.service.failed(self._request, error)
        if self._head_at:
            self._account()
            lane.abort()
        else:
            answer_any(lane, self._request, result)

    def _finish(self) -> None:
        lane = self.lane
        if lane.transport is None:
            return
        if self._chunked and self._request.verb != b"HEAD":
            lane.write(b"0\r\n\r\n")
        self._account()
        if self._last:
            lane.close()
        elif lane.service.now.closes:
            # Its head was sent before the drain began: the client knows of nothing.
            lane.deadlines.arm(lane.service.now.drain_linger)

    def _account(self) -> None:
        """Count it, by the time to its head: the rest is its client's pace, or its purpose."""
        lane, request, service = self.lane, self._request, self.lane.service
        self._counted = True
        now = lane.idle_since = monotonic()
        service.counters.answered(self.source.status, self._head_at - request.arrived)
        lane.conn.state = "idle"
        if service.log is not None:
            log_request(lane, request, self.source.status, self._size, now)

    async def _close_body(self) -> None:
        """Let the iterator clean up, whatever became of it."""
        close = getattr(self.source.body, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:
            self.lane.service.failed(self._request, error)

    # -- what the connection tells

    def must_know_of_end(self) -> bool:
        """Whether a client that sends no more is taken for gone.

        It may still read: a stream is sent to its end, or until a write finds nobody. A feed
        has no end, and might write nothing for long.
        """
        return self.source.endless or super().must_know_of_end()

    def announce_close(self) -> None:
        """The server drains: a feed ends, anything else is sent to its end."""
        super().announce_close()
        if self.source.endless and not self._ending and self._task is not None:
            self._ending = True
            self._task.cancel()

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for the rest."""
        super().connection_lost(exc)
        if self._head_at and not self._counted:
            self._account()
        if self._task is not None:
            self._task.cancel()
