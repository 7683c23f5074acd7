"""One HTTP/1 connection: what its transport calls, its state, its end, and the parts it has.

Rules:

- Its state is one of the table's (``states.py``); every move goes through :meth:`become`.
- Its duties are parts: ``intake`` (heads and bodies), ``answers`` (their order), ``deadlines``,
  ``reading`` (on and off) and, while answers are held for one write, an ``outbox``.
- A connection closed with unread input would be reset, and the reset destroys the answer
  on its way: after a refusal input is read on and discarded for a moment (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from apihour_http.connection import frames
from apihour_http.connection.activity import activity
from apihour_http.connection.answers import Answers
from apihour_http.connection.deadlines import DISCARD_SECONDS, Deadlines
from apihour_http.connection.heads import Intake
from apihour_http.connection.last_word import end_writing
from apihour_http.connection.outbox import Outbox
from apihour_http.connection.peer import origin_of
from apihour_http.connection.reading import PAYLOAD, UPGRADE_TAIL, WRITE, Reading
from apihour_http.connection.refusals import END
from apihour_http.connection.states import (
    CLOSED,
    DISCARDING,
    HOLDING,
    PARSING,
    UPGRADED,
    UPGRADING,
    State,
)
from apihour_http.connection.whole_messages import LONGEST, framed, messages
from apihour_http.direct import answer_any, check_slow, log_request
from apihour_http.head import lowered
from apihour_http.speed import compiled

if TYPE_CHECKING:
    from apihour_http.forwarded.origin import Origin
    from apihour_http.service import Service

if TYPE_CHECKING or compiled is None:
    from apihour_http.connection.lane import Lane
else:
    Lane = compiled.Lane

__all__ = ["HTTPConnection"]

# Bytes that are discarded at the end, of a declared length and of one that is not known. A
# client that is sending looks for its answer when it has sent everything.
_DISCARD_DECLARED = 64 << 20
_DISCARD_UNKNOWN = 16 << 20
# Bytes kept for a handler that has yet to accept its WebSocket.
_TAIL = 65536


class UnhostedRow:
    """Stands in for the host's connection row when there is no host."""

    __slots__ = ("requests", "state")

    def __init__(self) -> None:
        self.state = "open"
        self.requests = 0


class HTTPConnection(Lane, asyncio.Protocol):
    """One HTTP/1 connection of an :class:`apihour_http.HTTPServer`."""

    __slots__ = (
        "deadlines", "discardable", "hosted", "is_proxy", "loop", "outbox", "peer", "reading",
        "tail", "taker",
    )
    deadlines: Deadlines
    reading: Reading
    http_version = "1.1"
    memo = None

    def __init__(self, service: Service, conn: Any = None) -> None:
        self.service = service
        self.plan = service.plan
        self.loop = service.loop
        self.conn = conn if conn is not None else UnhostedRow()
        self.transport = None
        self.state = PARSING
        self.intake = intake = Intake(self)
        self.between = intake.between
        self.answers = answers = Answers(self)
        self.queue = answers.queue
        self.outbox: Outbox | None = None
        self.ready = True
        self.hosted: Any = None  # the application's side of the connection
        self.tail = b""
        self.taker: frames.Taker | None = None  # who takes what follows an upgrade
        self.sink = None
        self.write_paused = False
        self.discardable = _DISCARD_UNKNOWN
        self.idle_since = 0.0
        self.peer: str | None = None
        self.is_proxy: bool | None = None  # whether its peer is believed; None: not asked yet

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        self.reading = Reading(self.transport)
        now = self.idle_since = monotonic()
        self.service.opened.all.add(self)
        self.deadlines = Deadlines(self, now)

    def take(self, data: bytes) -> None:
        """Take a read the slow way: by the parser."""
        if not self.state.parses:
            self.take_elsewhere(data)
            return
        answers = self.answers
        intake = self.intake
        intake.arrived = answers.began = monotonic()
        if len(data) > self.service.large or data[0] < 33:
            data = intake.inspect(data)
        try:
            intake.feed(data)
        except Exception as error:
            intake.parser_stopped(error, data)
        if intake.urls or intake.pending is not None:
            intake.incomplete(len(data))
        if answers.queue or intake.held:
            answers.advance()
        elif answers.current is None:
            self.ready = self.state.starts and not self.write_paused

    if compiled is None:
        data_received = take
    lowered, messages, framed = staticmethod(lowered), staticmethod(messages), staticmethod(framed)
    longest_message = LONGEST
    # What the extension calls.
    answer_any, check_slow, log_request = answer_any, check_slow, log_request

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.opened.lost(self)
        self.transport = None
        self.become(CLOSED)
        if self.outbox is not None:
            self.outbox.take()
            self.outbox = None
        self.tail = b""
        # The parts refer to this connection: without the cycles all are freed here, not by
        # the collector. What still runs asks for the transport first.
        self.reading.end()
        self.deadlines.end()
        self.intake.end()
        current = self.answers.end()
        if self.hosted is not None:
            self.hosted.connection_lost(exc)
            self.hosted = None
        if self.service.options.cancel_on_disconnect and isinstance(current, asyncio.Task):
            current.cancel()

    def eof_received(self) -> bool:
        """Let the answers to complete requests out before closing."""
        transport = self.transport
        if not self.state.half_closes or self.service.options.cancel_on_disconnect:
            return False
        if transport is None or not transport.can_write_eof():
            return False
        if self.hosted is not None and self.hosted.must_know_of_end():
            return False
        answers, intake = self.answers, self.intake
        pending, intake.pending = intake.pending, None
        if pending in answers.queue:
            answers.queue.remove(pending)  # its body will never be complete
        if answers.current is None and not answers.queue:
            return False
        # Nothing is said, the connection closes after the answers.
        answers.refusal = answers.refusal or END
        self.become(DISCARDING)
        return True

    def is_at_end(self) -> bool:
        """Whether the client sends no more, and that is all there is to be refused."""
        return self.answers.refusal is END

    def pause_writing(self) -> None:
        self.write_paused = True
        self.ready = False
        self.deadlines.writing_stopped()
        self.reading.pause(WRITE)
        if self.hosted is not None:
            self.hosted.pause_writing()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.reading.resume(WRITE)
        if self.hosted is not None:
            self.hosted.resume_writing()
        if self.answers.current is None:
            self.answers.advance()

    # -- the state, and bytes that must not go to the parser now

    def become(self, state: State) -> None:
        """Move to `state`, see the table; whether a request may start is then told anew."""
        self.state = self.state.after(state)
        self.ready = False
        self.sink = self.taker = None

    def take_elsewhere(self, data: bytes) -> None:
        """Take bytes that must not go to the parser now."""
        if self.state is UPGRADED:
            frames.hand_on(self, data, UPGRADE_TAIL)
        elif self.state is HOLDING:
            self.intake.held += data
        elif self.state is UPGRADING:
            self.tail += data
            if len(self.tail) > _TAIL:
                self.reading.pause(UPGRADE_TAIL)
        else:
            self.idle_since = monotonic()
            self.discardable -= len(data)
            if self.discardable < 0:
                self.abort()

    def feed_frames(self, data: bytes) -> None:
        """Hand on what follows an upgrade."""
        frames.hand_on(self, data, UPGRADE_TAIL)

    def can_take_frames(self) -> bool:
        """Whether the application keeps up with its WebSocket, and is there."""
        return self.transport is not None and not self.reading.paused & PAYLOAD

    # -- answers that leave in one write

    def hold_answers(self) -> None:
        """Keep what is written from now on for one write, while every turn adds to it."""
        self.outbox = Outbox(self)
        self.write = self.outbox.write

    def flush(self) -> None:
        """Write what is held, and hold no more."""
        outbox, self.outbox = self.outbox, None
        if outbox is None or self.transport is None:
            return
        self.write = self.transport.write
        self.write(outbox.take())

    # -- closing

    def drain(self) -> None:
        """Say goodbye: the next answer is the last; a WebSocket is closed."""
        self.flush()
        if self.state is UPGRADED:
            task = self.hosted.goodbye()
            if task is not None:
                self.service.opened.keep_goodbye(task)
            return
        if self.hosted is not None:
            self.hosted.announce_close()
        self.deadlines.arm(self.service.now.drain_linger)

    def close(self) -> None:
        """Close once everything written is on its way."""
        pending = self.intake.pending
        if pending is not None and pending is self.answers.current:
            self.close_discarding(pending.left)  # its body is not whole
            return
        self.become(DISCARDING)
        if self.transport is not None and not self.transport.is_closing():
            self.flush()
            self.transport.close()
            self.deadlines.arm(self.service.options.write_timeout)

    def discard_up_to(self, length: int) -> None:
        """Discard that much before the end: what a body still has, when that is bearable."""
        if _DISCARD_UNKNOWN < length <= _DISCARD_DECLARED:
            self.discardable = length

    def close_discarding(self, left: int = 0) -> None:
        """Close, but read on for a moment, so that the last answer is not lost.

        `left` is what the body under way still has, as far as it is known; bytes.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.flush()
        self.become(DISCARDING)
        end_writing(transport)  # TLS cannot: there, "Connection: close" has to do
        self.discard_up_to(left)
        self.idle_since = self.intake.body_since = monotonic()
        self.reading.resume(self.reading.paused)
        self.deadlines.arm(DISCARD_SECONDS)

    def abort(self) -> None:
        """Drop the connection, with whatever was not sent."""
        if self.transport is not None:
            self.transport.abort()

    # -- for the application's side (apihour_http.hosting)

    @property
    def current(self) -> Any:
        """What is being answered: the task of a direct endpoint, or an exchange."""
        return self.answers.current

    @property
    def paused(self) -> int:
        """Not 0 while nothing is read."""
        return self.reading.paused

    def pause_payload(self) -> None:
        """The application does not keep up with the body."""
        self.reading.pause(PAYLOAD)

    def resume_payload(self) -> None:
        """The application wants more of the body."""
        if self.reading.paused & PAYLOAD:
            self.intake.measure_body(monotonic())
            self.reading.resume(PAYLOAD)
            if self.intake.held:
                self.answers.advance()
            elif self.state is UPGRADED:
                # Not at once: whoever asks for more would never give the others their turn.
                self.loop.call_soon(frames.go_on, self, UPGRADE_TAIL, frames.SMALLEST)

    def send_continue(self) -> None:
        """Ask for the body that an Expect announced (RFC 9110 10.1.1)."""
        if self.transport is not None:
            self.intake.send_continue()

    def hosted_done(self, exchange: Any, status: int, size: int) -> None:
        """The application's handler has answered; `exchange.keep` says what comes next."""
        self.answers.hosted_done(exchange, status, size)

    def upgraded(self, taker: Any) -> None:
        """The handler accepted its WebSocket: bytes go to `taker` from now on."""
        self.conn.state = "websocket"
        self.become(UPGRADED)
        self.taker = taker
        frames.feed(self, b"", UPGRADE_TAIL)

    def keepalive(self) -> float:
        """Seconds of silence after which an idle connection is closed."""
        return self.service.keepalive

    def closes(self) -> bool:
        """Whether an answer with nothing behind it is the last."""
        return self.service.now.closes

    def is_draining(self) -> bool:
        """Whether the server says goodbye."""
        return self.service.now.draining

    def is_last(self) -> bool:
        """Whether nothing waits behind the request that is being answered."""
        return not self.answers.queue and not self.intake.held

    # -- for those who look

    def set_timer(self) -> None:
        """It has stayed: give it a timer of its own."""
        self.deadlines.set_timer()

    def activity(self) -> dict[str, Any]:
        """What the connection is doing: see :mod:`apihour_http.connection.activity`."""
        return activity(self)

    def in_flight(self) -> int:
        """Requests being answered or waiting."""
        answers = self.answers
        return len(answers.queue) + (
            answers.current is not None and self.state is not UPGRADED)

    def is_websocket(self) -> bool:
        """Whether the connection is a WebSocket now."""
        return self.state is UPGRADED

    def remote(self) -> str | None:
        """The peer's address without its port; None for a unix socket."""
        if self.peer is not None:
            return self.peer
        address = getattr(self.conn, "peer_address", None)
        if address is None and self.transport is not None:
            address = self.transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = str(address[0])
        return self.peer

    def origin(self, fields: list[tuple[bytes, bytes]]) -> Origin | None:
        """What a proxy that is believed says of the request with these fields, if anything."""
        return origin_of(self, self.service.forwarding, fields)

    def client(self, fields: list[tuple[bytes, bytes]]) -> str | None:
        """The address of who sent the request with these fields: :meth:`remote` without proxy."""
        origin = self.origin(fields)
        return self.remote() if origin is None else origin.remote or self.remote()
