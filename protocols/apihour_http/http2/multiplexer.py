"""One HTTP/2 connection: what its transport calls, its streams, and what it may still receive.

Rules:

- A turn of the loop handles frames for two milliseconds; what is left over waits for the next,
  and nothing more is read meanwhile, nor while the client takes nothing.
- What a client may have open, kept, or done in vain is bounded: by streams (those count whose
  request runs on after a reset), by windows, by the sum of bodies that are kept, by an allowance.
- It ends with a GOAWAY and what is on its way; input is then discarded for a moment, so that
  the last answer is not destroyed by a reset of the socket.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from apihour_http.connection.activity import told
from apihour_http.connection.last_word import end_writing
from apihour_http.connection.peer import origin_of
from apihour_http.http2.allowance import MOST_STREAMS, STREAM_WINDOW, Allowance
from apihour_http.http2.answering import Dated
from apihour_http.http2.block_decoder import BlockDecoder
from apihour_http.http2.dispatch import ENDED, RESET_BY_CLIENT, RESET_BY_US, handle
from apihour_http.http2.farewells import TwoSteps
from apihour_http.http2.frame_bytes import (
    INTERNAL_ERROR,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    WINDOW,
    ConnectionBroken,
    goaway,
    reset,
    settings,
    window_update,
)
from apihour_http.http2.frame_reader import FrameReader
from apihour_http.http2.half_close import answers_on
from apihour_http.http2.outflow import Outflow
from apihour_http.http2.request_head import HeadJudge
from apihour_http.http2.stalls import Stalls

if TYPE_CHECKING:
    from apihour_http.forwarded.origin import Origin
    from apihour_http.head import Fields
    from apihour_http.http2.stream_lane import StreamLane
    from apihour_http.service import Service

__all__ = ["HTTP2Connection"]

_CONNECTION_WINDOW = 1 << 20  # of all bodies
_MOST_KEPT = 8 << 20  # bytes of bodies that are kept for endpoints, beside the oldest
_BUDGET = 0.002  # seconds of a turn of the loop
_PAST = 256  # streams that are remembered when they are no more
_DISCARDED = 1 << 20  # bytes that are discarded at the end
_MAX_STREAMS, _INITIAL_WINDOW, _MAX_HEAD = 3, 4, 6  # 6.5.2


class HTTP2Connection(asyncio.Protocol):
    """One HTTP/2 connection of an :class:`apihour_http.HTTPServer`."""

    __slots__ = (
        "_due_in", "_preface", "allowance", "amid_since", "began", "closing_since", "conn",
        "dated", "decode", "discardable", "farewell", "idle_since", "is_at_end", "is_left_over",
        "is_proxy", "is_settled", "judge", "keeping", "kept", "last", "last_fields", "last_seen",
        "loop", "memo", "orphans", "out", "past", "peer", "plan", "reader", "service", "streams",
        "table_update", "transport", "watch", "window_in",
    )

    def __init__(self, service: Service, conn: Any) -> None:
        self.service = service
        self.plan: Any = None  # of the extension, which knows HTTP/1
        self.last_fields: Fields = []  # and what is special among them
        self.last_seen = 0
        self.loop = service.loop
        self.conn = conn
        self.transport: asyncio.Transport | None = None
        self.peer: str | None = None
        self.is_proxy: bool | None = None  # whether its peer is believed; None: not asked yet
        now = self.began = self.idle_since = self.amid_since = monotonic()
        self.closing_since = 0.0
        self._preface = PREFACE
        self.is_settled = False  # whether the client's first SETTINGS came
        self.is_left_over = self.is_at_end = False  # is_at_end: the client sends no more
        self.reader = FrameReader(service.options.max_head)
        self.decode = BlockDecoder(service.options.max_head).decode
        self.judge = HeadJudge().judge
        self.allowance = Allowance(now)
        self.dated = Dated(service.renderer)
        self.memo: dict[str, Any] = {}  # of the application's side
        self.streams: dict[int, StreamLane] = {}
        self.past: dict[int, int] = {}  # how it ended: by END_STREAM, or a reset of whose
        self.orphans: set[asyncio.Task[None]] = set()
        self.keeping: dict[StreamLane, None] = {}
        self.kept = 0
        self.last = 0
        self.window_in = WINDOW
        self._due_in = 0
        self.table_update = b""  # what the next header block begins with
        self.discardable = _DISCARDED
        self.farewell = TwoSteps(self)
        self.watch = Stalls(self, now)

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = made = cast(asyncio.Transport, transport)
        self.service.opened.all.add(self)
        self.out = Outflow(self.loop, made.write)
        self.out.send(settings({
            _MAX_STREAMS: MOST_STREAMS, _INITIAL_WINDOW: STREAM_WINDOW,
            _MAX_HEAD: self.service.options.max_head}))
        self.credit_connection(_CONNECTION_WINDOW - WINDOW)
        self.window_in = _CONNECTION_WINDOW
        if self.service.now.draining:
            self.farewell.begin()

    def data_received(self, data: bytes) -> None:
        if self.closing_since:
            self._discard(len(data))
            return
        if self._preface:
            data = self._take_preface(data)
        self.reader.feed(data)
        if not self.is_left_over:
            self.handle_frames()

    def _take_preface(self, data: bytes) -> bytes:
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            self.fail(PROTOCOL_ERROR, "not the preface of HTTP/2")
            return b""
        self._preface = self._preface[size:]
        return data[size:]

    def handle_frames(self) -> None:
        """Handle what came, as much as a turn has time for."""
        began = self.began = monotonic()
        reader = self.reader
        self.out.cork()
        try:
            while not self.closing_since and (found := reader.take()) is not None:
                handle(self, *found)
                if monotonic() - began > _BUDGET:
                    self._leave_over()
                    return
        except ConnectionBroken as error:
            self.fail(error.code, error.reason)
            return
        except Exception as error:
            self.loop.call_exception_handler({
                "message": "a frame of HTTP/2 could not be handled", "exception": error,
                "transport": self.transport})
            self.fail(INTERNAL_ERROR, "")
            return
        if reader.is_amid() and not self.is_at_end:
            self.amid_since = self.amid_since or began
            self.watch.soon()
        elif self.is_settled:
            self.amid_since = 0.0
        self.out.flush()

    def _leave_over(self) -> None:
        self.is_left_over = True
        if self.transport is not None and not self.out.paused:
            self.transport.pause_reading()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.is_left_over = False
        transport = self.transport
        if transport is None or transport.is_closing() or self.out.paused:
            return
        self.handle_frames()
        if self.is_left_over or transport.is_closing():
            return
        if self.is_at_end:
            if not answers_on(self):
                self.close()
        elif not self.out.paused:
            transport.resume_reading()

    def eof_received(self) -> bool:
        """The client sends no more: answer what it has asked for, then close."""
        self.is_at_end = True
        return self.is_left_over or answers_on(self)

    def _discard(self, size: int) -> None:
        self.discardable -= size
        if self.discardable < 0:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.opened.lost(self)
        self.transport = None
        self.watch.end()
        self.farewell.end()
        for lane in list(self.streams.values()):
            lane.lost()
        self.memo.clear()  # it leads here

    def pause_writing(self) -> None:
        self.out.paused = True
        if self.transport is not None and not self.is_left_over:
            self.transport.pause_reading()
        self.watch.writing_stopped()

    def resume_writing(self) -> None:
        self.out.paused = False
        self.out.pump()
        self._go_on()

    # -- streams

    def forget(self, lane: StreamLane) -> None:
        """A stream is no more."""
        if self.streams.pop(lane.id, None) is None:
            return
        self.out.drop(lane)
        self._remember(lane.id, ENDED)
        if lane.uncredited:
            self.credit_connection(lane.uncredited)
            lane.uncredited = 0
        if lane.kept:
            self._unkeep(lane)
        if not self.streams:
            self.idle_since = monotonic()
            self.conn.state = "idle"
            if self.farewell.is_said or self.is_at_end:
                self.close()

    def _remember(self, number: int, how: int) -> None:
        past = self.past
        past[number] = past.get(number) or how
        if len(past) > _PAST:
            del past[next(iter(past))]

    def send_reset(self, lane: StreamLane, code: int) -> None:
        """Reset a stream that is there."""
        self.reset(lane.id, code)

    def reset(self, number: int, code: int) -> None:
        """Reset a stream."""
        self._remember(number, RESET_BY_US)
        if self.transport is not None:
            self.out.send(reset(number, code))

    def was_reset(self, number: int) -> None:
        """The client has reset a stream."""
        self._remember(number, RESET_BY_CLIENT)
        lane = self.streams.get(number)
        if lane is not None:
            lane.lost()

    def orphaned(self, lane: StreamLane) -> None:
        """A stream is no more whose task may run on: it counts until that is done."""
        task, lane.task = lane.task, None
        if task is None or task.done():
            return
        self.orphans.add(task)
        task.add_done_callback(self.orphans.discard)
        if self.service.options.cancel_on_disconnect:
            task.cancel()

    # -- what may still be received

    def credit(self, lane: StreamLane, size: int) -> None:
        """So many bytes of its body were taken, besides those that are due."""
        lane.uncredited += size
        if lane.is_payload_paused or not lane.uncredited:
            return
        size, lane.uncredited = lane.uncredited, 0
        self.credit_connection(size)
        self._widen(lane, size)

    def credit_connection(self, size: int) -> None:
        """So many bytes of whatever body were taken."""
        self._due_in += size
        if self._due_in >= _CONNECTION_WINDOW // 2 and self.transport is not None:
            self.out.send(window_update(0, self._due_in))
            self.window_in += self._due_in
            self._due_in = 0

    def _widen(self, lane: StreamLane, size: int) -> None:
        lane.due += size
        if lane.due >= STREAM_WINDOW // 2 and lane.transport is not None and not lane.is_complete:
            self.out.send(window_update(lane.id, lane.due))
            lane.window_in += lane.due
            lane.due = 0

    def keep(self, lane: StreamLane, size: int) -> None:
        """So many bytes of its body are kept until all of it is there.

        Beyond a sum only the oldest body gets more: the others wait for it.
        """
        self.credit_connection(size)
        self.kept += size
        self.keeping[lane] = None
        lane.withheld += size
        self._let_on(lane)

    def _let_on(self, lane: StreamLane) -> None:
        if self.kept <= _MOST_KEPT or lane is next(iter(self.keeping)):
            size, lane.withheld = lane.withheld, 0
            self._widen(lane, size)

    def _unkeep(self, lane: StreamLane) -> None:
        self.kept -= lane.kept
        lane.kept = 0
        self.keeping.pop(lane, None)
        for other in self.keeping:
            if other.withheld:
                self._let_on(other)

    # -- closing

    def drain(self) -> None:
        """Say goodbye: streams that are open are answered, a feed ends."""
        for lane in list(self.streams.values()):
            if lane.hosted is not None:
                lane.hosted.announce_close()
        self.farewell.begin()

    def fail(self, code: int, reason: str) -> None:
        """End the connection: the client has broken the protocol, or takes too much."""
        self.service.counters.refused += 1
        self.service.logger.debug("%s: HTTP/2 ended: %s", self.remote(), reason)
        self._end(code, reason)
        for lane in list(self.streams.values()):
            lane.lost()

    def close(self) -> None:
        """Close once everything written is on its way."""
        if not self.closing_since:
            self._end(NO_ERROR, "")

    def _end(self, code: int, reason: str) -> None:
        transport = self.transport
        if transport is None or self.closing_since or transport.is_closing():
            return
        self.closing_since = monotonic()
        self.out.send(goaway(self.last, code, reason))
        self.out.flush()
        if not self.is_at_end and end_writing(transport):
            transport.resume_reading()
        else:
            transport.close()
        self.watch.soon()

    def abort(self) -> None:
        """Drop the connection, with whatever was not sent."""
        if self.transport is not None:
            self.transport.abort()

    # -- for those who look

    @property
    def intake(self) -> HTTP2Connection:
        """What judges heads (:mod:`apihour_http.banned`)."""
        return self

    def set_timer(self) -> None:
        """It has one."""

    def activity(self) -> dict[str, Any]:
        """What the connection is doing: its oldest stream that is answered."""
        lanes = list(self.streams.values())
        for lane in lanes:
            if lane.current is not None:
                return told(lane, "write" if lane.write_paused else "request", lane.current)
        state = "closing" if self.closing_since else "idle" if self.conn.requests else "open"
        return {"state": "body" if lanes else state}

    def in_flight(self) -> int:
        """Requests being answered or waiting."""
        return len(self.streams)

    def is_websocket(self) -> bool:
        """Whether the connection is a WebSocket now."""
        return False

    def remote(self) -> str | None:
        """The peer's address without its port; None for a unix socket."""
        if self.peer is None:
            address = getattr(self.conn, "peer_address", None)
            if address is None and self.transport is not None:
                address = self.transport.get_extra_info("peername")
            if isinstance(address, tuple):
                self.peer = str(address[0])
        return self.peer

    def origin(self, fields: Fields) -> Origin | None:
        """What a proxy that is believed says of the request with these fields, if anything."""
        return origin_of(self, self.service.forwarding, fields)
