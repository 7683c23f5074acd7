"""The connection seen from its transport: state, reading on and off, deadlines, closing.

Rules:

- One timer per connection; it looks at the state when it fires and sets itself again. So
  a request costs no timer. Nor does a connection that is gone within a second, unless it
  has a deadline that soon: the server's own timer gives those that stay theirs.
- Reading stops while answers are outstanding, while the application does not keep up with
  a body, and while the client does not read: its input cannot grow our memory.
- A connection closed with unread input would be reset, and the reset destroys the answer
  on its way: after a refusal input is read on and discarded for a moment (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from apihour_http.activity import activity
from apihour_http.connection import frames
from apihour_http.connection.states import (
    CLOSED,
    DISCARDING,
    HOLDING,
    PARSING,
    UPGRADED,
    UPGRADING,
    State,
)
from apihour_http.errors import BadRequest, HTTPError

if TYPE_CHECKING:
    from apihour_http.service import Service

__all__ = ["Wire"]

# Reasons to stop reading.
QUEUE, PAYLOAD, WRITE, UPGRADE_TAIL = 1, 2, 4, 8
# After the last answer: seconds of silence and seconds in all until the end, and bytes that
# are discarded, of a declared length and of one that is not known. A client that is sending
# looks for its answer when it has sent everything.
_DISCARD_SECONDS = 1.0
_DISCARD_IN_ALL = 10.0
_DISCARD_DECLARED = 64 << 20
_DISCARD_UNKNOWN = 16 << 20
# Bytes kept for a handler that has yet to accept its WebSocket.
_TAIL = 65536
# Bytes of pipelined answers held for one write: what fills a transport's buffer, too.
_OUTBOX = 65536
# Deadlines within so many seconds need a timer at once; the server looks every second.
_SOON = 2.0
# In place of a refusal: the client sends no more, and has had all its answers.
_END = BadRequest("")
# Seconds between two looks at a connection whose state has no deadline.
_LOOK = 15.0


class Row:
    """Stands in for the host's connection row when there is no host."""

    __slots__ = ("requests", "state")

    def __init__(self) -> None:
        self.state = "open"
        self.requests = 0


class Wire(asyncio.Protocol):
    """State and transport of one HTTP/1 connection."""

    __slots__ = (
        "arrived", "began", "between", "body_bytes", "body_since", "chunks", "claimed", "conn",
        "current", "discardable", "expecting", "feed", "fields", "flusher",
        "head_bytes", "head_since", "held", "hosted", "idle_since", "large", "last_fields",
        "last_seen", "latest", "loop", "on_body", "on_message_begin", "on_url", "outbox",
        "outbox_bytes", "parser", "parts", "paused", "peer", "pending", "queue", "ready",
        "refusal", "refused", "repeated", "service", "set_aside", "sized", "sized_fields",
        "starting", "state", "tail", "timer", "timer_at", "transport", "unseen", "urls", "write",
        "write_mark", "write_paused",
    )

    def __init__(self, service: Service, conn: Any = None) -> None:
        self.service = service
        self.loop = service.loop
        self.conn = conn if conn is not None else Row()
        self.transport: asyncio.Transport | None = None
        self.urls: list[bytes] = []
        self.fields: list[tuple[bytes, bytes]] = []
        self.last_fields: list[tuple[bytes, bytes]] = []
        self.last_seen = 0
        self.sized_fields: list[tuple[bytes, bytes]] | None = None
        self.sized = 0
        self.chunks: list[bytes] = []
        self.parts: list[bytes] = []
        # Not empty while the parser stands before a message.
        self.between = [True]
        # Bound once: for these the parser calls C, not Python.
        self.on_url = self.urls.append
        self.on_body = self.chunks.append
        self.on_message_begin = self.between.clear
        # The last read, when it was one whole request without a body, and what its head said.
        self.repeated = b""
        self.latest: Any = None
        self.parser = service.binding.make(self)
        self.feed = self.parser.feed_data
        self.queue: deque[Any] = deque()
        self.current: Any = None
        self.pending: Any = None
        self.claimed: Any = None
        # A message whose body is parsed after an upgrade was ignored, and that body's length.
        self.set_aside: tuple[Any, int] | None = None
        self.hosted: Any = None
        self.held = b""
        self.tail = b""
        self.refusal: HTTPError | None = None
        self.refused: Any = None  # the request of that refusal, when it is known
        self.state = PARSING
        self.ready = True
        self.large = False
        self.expecting = False
        self.starting = False
        self.write_paused = False
        self.paused = 0
        self.discardable = _DISCARD_UNKNOWN
        self.head_bytes = 0
        self.body_bytes = self.unseen = 0
        self.head_since = self.arrived = self.began = 0.0
        self.body_since = 0.0
        self.write_mark = (0.0, 0)
        self.flusher: asyncio.Handle | None = None
        self.peer: str | None = None
        self.timer: asyncio.TimerHandle | None = None

    # -- what the other halves do

    def advance(self) -> None:
        """Start what waits."""
        raise NotImplementedError

    def refuse(self, error: HTTPError) -> None:
        """Answer `error` in its turn, then close."""
        raise NotImplementedError

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write: Callable[[bytes], None] = self.transport.write
        now = self.idle_since = monotonic()
        service = self.service
        service.opened.all.add(self)
        delay = service.now.drain_linger if service.now.draining else self._silence()
        self.timer_at = now + delay
        if delay > _SOON:
            service.opened.newcomers.add(self)
        else:
            self.timer = self.loop.call_later(delay, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.opened.lost(self)
        if self.timer is not None:
            self.timer.cancel()
        if self.flusher is not None:
            self.flusher.cancel()
            self.flusher = None
            self.outbox.clear()
        self.transport = None
        self.parser = self.feed = None
        self.become(CLOSED)
        self.queue.clear()
        self.held = self.tail = b""
        self.pending = self.refused = None
        current = self.current
        if self.hosted is not None:
            self.hosted.connection_lost(exc)
            # It refers to this lane: without the cycle both are freed here, not by the collector.
            self.hosted = None
        elif current is not None and self.service.options.cancel_on_disconnect:
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
        pending, self.pending = self.pending, None
        if pending in self.queue:
            self.queue.remove(pending)  # its body will never be complete
        if self.current is None and not self.queue:
            return False
        # Nothing is said, the connection closes after the answers.
        self.refusal = self.refusal or _END
        self.become(DISCARDING)
        return True

    def is_at_end(self) -> bool:
        """Whether the client sends no more, and that is all there is to be refused."""
        return self.refusal is _END

    def pause_writing(self) -> None:
        self.write_paused = True
        self.ready = False
        self._mark_writing()
        self.arm(self.service.options.write_timeout)
        self.pause(WRITE)
        if self.hosted is not None:
            self.hosted.pause_writing()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.resume(WRITE)
        if self.hosted is not None:
            self.hosted.resume_writing()
        if self.current is None:
            self.advance()

    # -- answers that leave in one write

    def hold_answers(self) -> None:
        """Keep what is written from now on for one write, while every turn adds to it."""
        self.outbox: list[bytes] = []
        self.outbox_bytes = 0
        self.write = self._hold
        self.flusher = self.loop.call_soon(self._flush_unless, self.conn.requests)

    def _hold(self, data: bytes) -> None:
        self.outbox.append(data)
        self.outbox_bytes += len(data)
        if self.outbox_bytes > _OUTBOX:
            self.flush()

    def _flush_unless(self, requests: int) -> None:
        """Flush, unless another request has begun since the last turn of the loop."""
        begun = self.conn.requests
        if begun != requests and self.queue:
            self.flusher = self.loop.call_soon(self._flush_unless, begun)
        else:
            self.flush()

    def flush(self) -> None:
        """Write what is held, and hold no more."""
        flusher, self.flusher = self.flusher, None
        if flusher is None or self.transport is None:
            return
        flusher.cancel()
        self.write = self.transport.write
        self.write(b"".join(self.outbox))
        self.outbox.clear()

    # -- bytes that must not go to the parser now

    def become(self, state: State) -> None:
        """Move to `state`, see the table; whether a request may start is then told anew."""
        self.state = self.state.after(state)
        self.ready = False

    def take_elsewhere(self, data: bytes) -> None:
        """Take bytes that must not go to the parser now."""
        if self.state is UPGRADED:
            self.feed_frames(data)
        elif self.state is HOLDING:
            self.held += data
        elif self.state is UPGRADING:
            self.tail += data
            if len(self.tail) > _TAIL:
                self.pause(UPGRADE_TAIL)
        else:
            self.idle_since = monotonic()
            self.discardable -= len(data)
            if self.discardable < 0:
                self.abort()

    def feed_frames(self, data: bytes) -> None:
        """Hand on what follows an upgrade."""
        if self.tail or len(data) > frames.SLICE:
            frames.feed(self, data, UPGRADE_TAIL)
        else:
            self.hosted.data_received(data)

    def can_take_frames(self) -> bool:
        """Whether the application keeps up with its WebSocket, and is there."""
        return self.transport is not None and not self.paused & PAYLOAD

    # -- reading on and off

    def pause(self, reason: int) -> None:
        """Stop reading for `reason`."""
        if not self.paused and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused |= reason

    def resume(self, reason: int) -> None:
        """Read on, unless there is another reason not to."""
        if self.paused & reason:
            self.paused &= ~reason
            if not self.paused and self.transport and not self.transport.is_closing():
                self.transport.resume_reading()

    def pause_payload(self) -> None:
        """The application does not keep up with the body."""
        self.pause(PAYLOAD)

    def resume_payload(self) -> None:
        """The application wants more of the body."""
        if self.paused & PAYLOAD:
            self.body_since = monotonic()
            self.body_bytes = 0
            self.resume(PAYLOAD)
            if self.held:
                self.advance()
            elif self.state is UPGRADED:
                frames.go_on(self, UPGRADE_TAIL)

    # -- time

    def arm(self, delay: float) -> None:
        """Look at the connection again in `delay` seconds at the latest."""
        when = monotonic() + delay
        if when < self.timer_at:
            self.timer_at = when
            if self.timer is not None:
                self.timer.cancel()
            elif delay > _SOON:
                return
            self.timer = self.loop.call_later(delay, self._look)

    def set_timer(self) -> None:
        """Give a connection that stays a timer of its own."""
        if self.timer is None:
            self.timer = self.loop.call_later(max(0.0, self.timer_at - monotonic()), self._look)

    def _mark_writing(self) -> None:
        assert self.transport is not None
        self.write_mark = (monotonic(), self.transport.get_write_buffer_size())

    def _look(self) -> None:
        """Act on a deadline that has passed, or come back at the next one."""
        if self.transport is None:
            return
        now = monotonic()
        when, act = self._deadline(now)
        if when <= now:
            act()
            if self.transport is None:
                return
            when = now + _DISCARD_SECONDS
        delay = min(_LOOK, self.service.keepalive or _LOOK) if when == float("inf") else when - now
        # uvloop's clock has milliseconds: never come back a hair too early.
        delay += 0.001
        self.timer_at = now + delay
        self.timer = self.loop.call_later(delay, self._look)

    def _deadline(self, now: float) -> tuple[float, Any]:
        """When the present state has lasted too long, and what to do then."""
        options = self.service.options
        assert self.transport is not None
        if self.transport.is_closing() or self.write_paused:
            since, size = self.write_mark
            if not since or self.transport.get_write_buffer_size() < size:
                self._mark_writing()
                since = now
            return since + options.write_timeout, self.abort
        if self.state is DISCARDING and self.refusal is None and self.current is None:
            return min(self.idle_since + _DISCARD_SECONDS,
                       self.body_since + _DISCARD_IN_ALL), self.abort
        if not self.state.times:
            return float("inf"), None
        if self.pending is not None and not self.paused:
            allowance = self.body_bytes / options.body_rate if options.body_rate else 0.0
            return self.body_since + options.body_timeout + allowance, self._too_slow
        if self.current is not None or self.queue:
            return float("inf"), None
        if self.urls or self.head_bytes:
            return self.head_since + options.header_timeout, self._too_slow
        quiet = self.idle_since + self._silence()
        if self.service.now.draining:
            since = max(self.idle_since, self.service.now.drain_since)
            quiet = min(quiet, since + self.service.now.drain_linger)
        return quiet, self.close

    def _silence(self) -> float:
        """Seconds of silence until the end; without keep-alive, a first request is waited for."""
        keepalive = self.service.keepalive
        return (keepalive if keepalive or self.conn.requests
                else self.service.options.header_timeout)

    def _too_slow(self) -> None:
        self.service.counters.timeouts += 1
        self.refuse(BadRequest("the request took too long to arrive", 408))

    # -- closing

    def drain(self) -> None:
        """Say goodbye: the next answer is the last; a WebSocket gets 1001."""
        self.flush()
        if self.state is UPGRADED:
            task = self.hosted.goodbye()
            if task is not None:
                self.service.opened.keep_goodbye(task)
            return
        if self.hosted is not None:
            self.hosted.announce_close()
        self.arm(self.service.now.drain_linger)

    def close(self) -> None:
        """Close once everything written is on its way."""
        self.become(DISCARDING)
        if self.transport is not None and not self.transport.is_closing():
            self.flush()
            self.transport.close()
            self.arm(self.service.options.write_timeout)

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
        if transport.can_write_eof():  # TLS cannot: there, "Connection: close" has to do
            transport.write_eof()
        self.discard_up_to(left)
        self.idle_since = self.body_since = monotonic()
        self.resume(self.paused)
        self.arm(_DISCARD_SECONDS)

    def abort(self) -> None:
        """Drop the connection, with whatever was not sent."""
        if self.transport is not None:
            self.transport.abort()

    # -- for those who look

    def activity(self) -> dict[str, Any]:
        """What the connection is doing: see :mod:`apihour_http.activity`."""
        return activity(self)

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
        return not self.queue and not self.held

    def in_flight(self) -> int:
        """Requests being answered or waiting."""
        return len(self.queue) + (self.current is not None and self.state is not UPGRADED)

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
