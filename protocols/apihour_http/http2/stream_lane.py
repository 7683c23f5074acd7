"""One stream of HTTP/2, which stands where a connection of HTTP/1 stands for one request.

Rules:

- To endpoints and applications it is a connection (``hosting.HostingLane``) that has this one
  request, and its own transport; what they write is taken apart by ``reframing.py``. A plain
  answer of an endpoint goes straight into frames.
- It ends when both sides are done, or with a reset. What still runs then finds ``transport``
  None, as on HTTP/1.
- What it received and nobody has taken keeps its window closed: neither end can grow our memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from apihour_http.head import lowered
from apihour_http.http2.answering import reply
from apihour_http.http2.fieldblocks import block_of, field, status_field
from apihour_http.http2.frame_bytes import END_STREAM, INTERNAL_ERROR, NO_ERROR, header_frames
from apihour_http.http2.reframing import Reframing
from apihour_http.statistics import FAST

if TYPE_CHECKING:
    from apihour_http.forwarded.origin import Origin
    from apihour_http.head import Fields
    from apihour_http.http2.streams_side import StreamsSide

__all__ = ["StreamLane"]

# Bytes of a body that wait for the client before its maker is told to wait, and to go on.
_HIGH_WATER = 65536
_LOW_WATER = 16384


class StreamLane:
    """One request and its answer; also the transport that its application sees."""

    __slots__ = (
        "body_bytes", "body_since", "conn", "current", "due", "ending", "exchange", "head_only",
        "head_sent", "hosted", "id", "idle_since", "is_complete", "is_payload_paused", "kept",
        "left", "loop", "output_done", "parts", "pending", "reframing", "request", "service",
        "session", "stalled_since", "task", "trailers", "transport", "uncredited", "waiting",
        "window", "window_in", "withheld", "write_paused",
    )
    http_version = "2.0"
    outbox = None
    lowered = staticmethod(lowered)
    encoded = staticmethod(field)

    def __init__(self, session: StreamsSide, number: int, window: int, window_in: int) -> None:
        self.session = session
        self.service = session.service
        self.loop = session.loop
        self.conn = session.conn
        self.id = number
        self.transport: Any = self
        self.window = window
        self.window_in = window_in
        self.pending: deque[memoryview] = deque()
        self.waiting = 0  # bytes in it
        self.ending = self.head_sent = self.output_done = self.is_complete = False
        self.head_only = self.write_paused = self.is_payload_paused = False
        self.trailers: bytes | None = None
        self.reframing: Reframing | None = None
        self.hosted: Any = None
        self.current: Any = None
        self.request: Any = None  # whose body is kept until it is whole
        self.exchange: Any = None  # that takes its body as it comes
        self.parts: list[bytes] = []
        self.left = -1  # of the body, -1 where its length was not told
        self.body_bytes = self.kept = 0  # kept: those in parts
        # Bytes that were taken in: not by the application yet; so that it may send more, which
        # waits for others' bodies; which is told with the next of them.
        self.uncredited = self.withheld = self.due = 0
        self.task: asyncio.Task[None] | None = None
        self.idle_since = self.body_since = self.stalled_since = 0.0

    # -- the answer, in parts

    def send_head(self, status: int, fields: Fields, is_end: bool) -> None:
        """Send a head; one of 1xx is followed by another."""
        self.send_block(block_of(status, fields), is_end, interim=status < 200)

    def send_beginning(self, status: int, fields: bytes, is_dated: bool, length: int | None,
                       body: bytes, is_end: bool) -> None:
        """Send a head, whose `fields` are encoded, and the first of its body."""
        block = status_field(status) + fields
        if not is_dated:
            dated = self.session.dated
            dated.renew()
            block += dated.date
        if length is not None:
            block += field(b"content-length", b"%d" % length)
        if body and is_end:
            self.send_whole(block, body)
            return
        self.send_block(block, is_end)
        if body:
            self.send_body(body, False)

    def send_whole(self, block: bytes, body: bytes) -> None:
        """Send a head that is encoded, and all of its body, which is not empty."""
        if self.transport is None:
            return
        session = self.session
        if not session.table_update and session.out.whole(self, block, body):
            self.head_sent = self.ending = True
            session.allowance.give(2)  # the client's leave to send more, twice
            self.output_ended()
        else:
            self.send_block(block, False)
            self.send_body(body, True)

    def send_block(self, block: bytes, is_end: bool, interim: bool = False) -> None:
        """Send a head that is encoded."""
        if self.transport is None:
            return
        self.head_sent = not interim
        if self.session.table_update:
            block, self.session.table_update = self.session.table_update + block, b""
        self.session.out.send(header_frames(END_STREAM if is_end else 0, self.id, block))
        if is_end:
            self.output_ended()

    def send_body(self, data: bytes, is_end: bool) -> None:
        """Send a part of the body."""
        if self.transport is None or self.output_done:
            return
        self.waiting += len(data)
        self.session.out.body(self, data, is_end)
        if self.pending:
            self.session.watch.soon()
            if not self.stalled_since:
                self.stalled_since = monotonic()
            if self.waiting > _HIGH_WATER and not self.write_paused:
                self.write_paused = True
                if self.hosted is not None:
                    self.hosted.pause_writing()

    def send_trailers(self, fields: Fields) -> None:
        """Send the trailers, behind what waits of the body."""
        if self.transport is not None and not self.output_done:
            self.trailers = b"".join([field(name, value) for name, value in fields])
            self.session.out.body(self, b"", True)

    def moved(self, size: int) -> None:
        """So many bytes of the body have left."""
        self.waiting -= size
        if size:
            self.session.allowance.give(2)  # the client's leave to send more, twice
        self.stalled_since = monotonic() if self.pending else 0.0
        if self.write_paused and self.waiting <= _LOW_WATER:
            self.write_paused = False
            if self.hosted is not None:
                self.hosted.resume_writing()

    def output_ended(self) -> None:
        """All of the answer has left; a request that is not whole is not read on (8.1)."""
        self.output_done = True
        self.session.allowance.give(2)
        if not self.is_complete:
            self.session.send_reset(self, NO_ERROR)
        self.leave()

    # -- its end

    def leave(self) -> None:
        """Both sides are done: the stream is no more."""
        self.session.forget(self)
        self.transport = self.reframing = None

    def lost(self) -> None:
        """The client has reset it, or is gone: whoever answers is told."""
        if self.transport is None:
            return
        self.leave()
        # An endpoint that takes its body as it comes stands here once it runs.
        side = self.hosted or getattr(self.exchange, "hosted", None)
        self.request = self.exchange = self.hosted = None
        self.parts.clear()
        if side is not None:
            side.connection_lost(None)
        self.session.orphaned(self)

    def break_off(self, code: int) -> None:
        """Reset it."""
        if self.transport is not None:
            self.session.send_reset(self, code)
            self.lost()

    def abort(self) -> None:
        """Drop it, with whatever was not sent."""
        self.break_off(INTERNAL_ERROR)

    def close(self) -> None:
        """Close once everything written is on its way: an answer that is not whole is broken."""
        if self.transport is None or self.output_done or self.ending:
            return
        if self.reframing is not None and self.reframing.ends_with_connection():
            self.reframing.close()
        else:
            self.abort()

    def close_discarding(self, left: int = 0) -> None:
        """Nothing is left to be discarded: a reset tells the client to send no more."""
        self.close()

    # -- for those who write as on HTTP/1 (hosting.HostingLane, asyncio.Transport)

    def write(self, data: bytes) -> None:
        """Take a part of an answer of HTTP/1."""
        if self.transport is None or self.output_done:
            return
        if self.reframing is None:
            self.reframing = Reframing(self, self.head_only)
        self.reframing.write(bytes(data))

    def writelines(self, parts: Any) -> None:
        """Take parts of an answer of HTTP/1."""
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.transport is None or self.output_done

    def can_write_eof(self) -> bool:
        """Whether the sending side can be closed by itself; not by whoever writes HTTP/1."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection; its socket is not the stream's."""
        transport = self.session.transport
        if name == "socket" or transport is None:
            return default
        return transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the client."""
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Theirs are the stream's own."""

    def pause_reading(self) -> None:
        """Keep its window closed."""
        self.pause_payload()

    def resume_reading(self) -> None:
        """Open its window."""
        self.resume_payload()

    @property
    def _sendfile_compatible(self) -> Any:
        """What asyncio asks a transport in ``loop.sendfile``: no file goes past the frames.

        This error, as of a loop that knows no sendfile, has aiohttp's FileResponse read it.
        """
        raise NotImplementedError("a stream of HTTP/2 has no socket of its own")

    def flush(self) -> None:
        """Nothing is held."""

    # -- for the application's side

    @property
    def answers(self) -> StreamLane:
        """The order of answers: here there is one."""
        return self

    deadlines = answers

    @property
    def began(self) -> float:
        """When what was read last began to be handled; monotonic time."""
        return self.session.began

    @property
    def memo(self) -> dict[str, Any]:
        """What the streams of a connection remember for one another."""
        return self.session.memo

    def arm(self, delay: float) -> None:
        """The connection has the deadlines."""

    @property
    def paused(self) -> int:
        """Not 0 while nothing is taken."""
        return int(self.is_payload_paused)

    def pause_payload(self) -> None:
        """The application does not keep up with the body."""
        self.is_payload_paused = True

    def resume_payload(self) -> None:
        """The application wants more of the body."""
        if self.is_payload_paused:
            self.is_payload_paused = False
            self.body_since, self.body_bytes = monotonic(), 0
            self.session.credit(self, 0)

    def send_continue(self) -> None:
        """Ask for the body that an Expect announced (RFC 9110 10.1.1)."""
        if self.transport is not None and not self.head_sent:
            self.send_head(100, [], False)

    def keepalive(self) -> float:
        """Seconds of silence after which an idle connection is closed."""
        return self.service.keepalive

    def closes(self) -> bool:
        """Whether an answer should say that it is the last: GOAWAY says so here."""
        return False

    def is_draining(self) -> bool:
        """Whether the server says goodbye."""
        return self.service.now.draining

    def is_last(self) -> bool:
        """Whether this is the last request of its connection; one cannot know."""
        return False

    def remote(self) -> str | None:
        """The peer's address without its port; None for a unix socket."""
        return self.session.remote()

    def origin(self, fields: Fields) -> Origin | None:
        """What a proxy that is believed says of the request with these fields, if anything."""
        return self.session.origin(fields)

    def client(self, fields: Fields) -> str | None:
        """The address of who sent the request with these fields."""
        origin = self.session.origin(fields)
        return self.remote() if origin is None else origin.remote or self.remote()

    def upgraded(self, taker: Any) -> None:
        """No stream is upgraded: none was told that it could be."""
        raise RuntimeError("a stream of HTTP/2 is no WebSocket: expected one on HTTP/1")

    def answer(self, request: Any, result: Any) -> Coroutine[Any, Any, None] | None:
        """Answer with `result`; what sends the rest of it is returned, if there is a rest."""
        return reply(self, request, result)

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run what answers; the stream has its task."""
        self.task = self.loop.create_task(work, name=name)

    # -- what came

    def hosted_done(self, exchange: Any, status: int, size: int) -> None:
        """The application has answered, or has not and is done."""
        now = self.idle_since = monotonic()
        service = self.service
        seconds = now - exchange.arrived
        counters = service.counters
        if status < 300 and seconds < FAST:
            counters.seconds += seconds
            counters.fast += 1
        else:
            counters.answered(status, seconds)
        for watcher in service.now.watchers:
            watcher.hosted_done(exchange, status, seconds)
        if seconds > service.slow:
            method, target = exchange.named()
            counters.note_slow(method, target, seconds)
        if service.log is not None:
            exchange.log(service.log, status, size, now)
        self._settle()
        if self.hosted is not None:
            hosted, self.hosted = self.hosted, None
            hosted.connection_lost(None)

    def upload_done(self, exchange: Any) -> None:
        """An endpoint that took its body as it came has answered, and was counted."""
        self._settle()

    def _settle(self) -> None:
        """Whoever answers has nothing to add: an answer that is not whole is broken."""
        self.current = self.exchange = None  # which lead here: nothing is left to the collector
        if not (self.ending or self.output_done):
            self.close()
