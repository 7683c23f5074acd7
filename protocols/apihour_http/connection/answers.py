"""The connection seen from its endpoints: running them, answering, and the order of it.

Rules:

- At most one request runs at a time; others wait in ``queue``, in the order received.
- A direct endpoint starts when its message is complete; the application's handler starts
  when the head is complete, its body is streamed.
- An idle connection's complete request is dispatched straight from ``data_received``.
- A read that repeats the one before it, byte for byte, is not parsed again: when that was one
  whole request without a body, and the parser stands before a message, it would decide
  the same. (Pollers, probes and their like send the same request over and over.)
- While pipelined requests wait, answers are collected and leave in one write; a turn of the
  loop that begins no request sends them, so a slow endpoint holds back nothing.
- After a budget of pipelined answers the other connections get their turn.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic, time
from typing import Any

from apihour_http.connection.bytes import (
    PAYLOAD,
    QUEUE,
    UPGRADE_TAIL,
)
from apihour_http.connection.heads import Intake
from apihour_http.connection.states import HOLDING, PARSING, UPGRADED, UPGRADING
from apihour_http.request import Head, Request

__all__ = ["HTTPConnection"]

# What a slice costs of the budget of a turn: one-byte chunks make it a millisecond.
_SLICE_COST = 8
# Answers faster than this (seconds) are counted without a search: nearly all are.
_FAST = 0.0001
_new = Request.__new__

_EAGER = sys.version_info >= (3, 12)

if sys.version_info >= (3, 12):

    def _task(coro: Any, loop: asyncio.AbstractEventLoop, name: str) -> asyncio.Task[None]:
        return asyncio.Task(coro, loop=loop, name=name, eager_start=True)
else:
    _task = asyncio.Task


class HTTPConnection(Intake):
    """One HTTP/1 connection of an :class:`apihour_http.HTTPServer`."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        if data == self.repeated and self.ready:
            self._repeat()
        else:
            if not self.state.parses:
                self.take_elsewhere(data)
                return
            alone = self.ready and len(self.between) and len(data) <= self.service.repeatable
            self.repeated, self.latest = b"", None
            self.arrived = self.began = monotonic()
            if len(data) > self.service.large or data[0] < 33:
                data = self.inspect(data)
            try:
                self.feed(data)
            except Exception as error:
                self.parser_stopped(error, data)
            if self.urls or self.pending is not None:
                self.incomplete(len(data))
            elif alone and self.latest is not None and self.between and not self.queue:
                self.repeated = data
        if self.queue or self.held:
            self.advance()
        elif self.current is None:
            self.ready = self.state.starts and not self.write_paused

    def _repeat(self) -> None:
        """Take the same request once more: to the same bytes the parser says the same."""
        self.ready = False
        self.arrived = self.began = monotonic()
        head = self.latest
        if type(head) is Head:
            request = _new(Request)
            request.lane = self
            request.head = head
            values = head.match_info
            request.match_info = values.copy() if values else {}
            request.body = b""
            request.arrived = self.arrived
            self.start(request)
        else:
            self.start_hosted(self.hosted.repeat(head, self.arrived))

    # -- direct endpoints

    def start(self, request: Request) -> None:
        endpoint = request.head.endpoint
        conn = self.conn
        conn.requests += 1
        conn.state = "request"
        if endpoint.inline:
            try:
                result = endpoint.call(request)
            except Exception as error:
                result = self.service.failed(request, error)
            self._answer(request, result)
            return
        task = _task(self._run(request), loop=self.loop, name=endpoint.name)
        if not (_EAGER and task.done()):
            self.current = task

    async def _run(self, request: Request) -> None:
        """The body of the task of one endpoint."""
        try:
            result = await request.head.endpoint.call(request)
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception as error:
            result = self.service.failed(request, error)
        queue = self.queue
        if queue and self.flusher is None and type(queue[0]) is Request and not (
            queue[0].head.endpoint.inline or self.transport is None
        ):
            self.hold_answers()
        self._answer(request, result)
        if self.current is not None:
            # As _next(): a call less in every request.
            self.current = None
            if queue or self.held or self.refusal is not None or self.expecting:
                self.advance()
            else:
                self.ready = self.state.starts and not self.write_paused

    def _next(self) -> None:
        """Go on after an answer that did not come at once."""
        if self.queue or self.held or self.refusal is not None or self.expecting:
            self.advance()
        else:
            self.ready = self.state.starts and not self.write_paused

    def _answer(self, request: Request, result: Any) -> None:
        service = self.service
        kind = type(result)
        if kind is dict and request.head.plain and service.now.quick:
            try:
                text = service.dumps(result)
            except Exception:
                # The general way tries harder, and says what is wrong.
                self._answer_any(request, result)
                return
            if self.transport is None:
                return
            size = len(text)
            self.write(f"{service.now.json_head}{size}\r\n\r\n{text}".encode())
            now = self.idle_since = monotonic()
            seconds = now - request.arrived
            counters = service.counters
            counters.seconds += seconds
            if seconds < _FAST:
                counters.counts[0] += 1
            else:
                counters.count(seconds)
                if seconds > service.slow:
                    self._check_slow(request, now)
            self.conn.state = "idle"
            if service.log is not None:
                self.log(request, 200, size, now)
            return
        self._answer_any(request, result)

    def _answer_any(self, request: Request, result: Any) -> None:
        """The general case: any type, any version, HEAD, last on its connection."""
        service = self.service
        if self.transport is None:
            return
        head = request.head
        last = not head.keep or (service.now.closes and self.is_last())
        connection = ""
        if last:
            connection = "Connection: close\r\n"
        elif not head.modern:
            connection = "Connection: keep-alive\r\n"
        head_only = head.method == b"HEAD"
        render = service.renderer.render
        try:
            status, size, data, rest = render(result, connection, head_only)
        except Exception as error:
            status, size, data, rest = render(
                service.failed(request, error), connection, head_only)
        self.write(data)
        if rest:
            self.write(rest)
        now = self.idle_since = monotonic()
        seconds = now - request.arrived
        service.counters.answered(status, seconds)
        if seconds > service.slow:
            self._check_slow(request, now)
        self.conn.state = "idle"
        if service.log is not None:
            self.log(request, status, 0 if head_only else size, now)
        if last:
            self.close()

    def _check_slow(self, request: Request, now: float) -> None:
        self.service.counters.note_slow(request.method, request.path_qs, now - request.arrived)
        if request.head.endpoint.inline and now - self.began > self.service.slow:
            self.service.warn_slow(request, now - self.began)

    def log(self, request: Request, status: int, size: int, now: float) -> None:
        """Enter the request into the access log."""
        assert self.service.log is not None
        referer = agent = None
        for name, value in request.head.fields:
            length = len(name)
            if length == 7 and name.lower() == b"referer":
                referer = value.decode("latin-1")
            elif length == 10 and name.lower() == b"user-agent":
                agent = value.decode("latin-1")
        self.service.log.add((
            time(), self.remote(), request.method, request.path_qs,
            "HTTP/1.1" if request.head.modern else "HTTP/1.0", status, size,
            now - request.arrived, referer, agent,
        ))

    # -- order

    def advance(self) -> None:
        budget = self.service.options.budget
        while self.transport is not None and self._can_go_on():
            if self.transport.is_closing():
                self.queue.clear()
                self.held = b""
                return
            if budget <= 0:
                self.pause(QUEUE)
                self.loop.call_soon(self.advance)
                return
            if self.queue and self.current is None:
                budget -= 1
                self.began = monotonic()
                item = self.queue.popleft()
                if type(item) is Request:
                    self.start(item)
                else:
                    self.start_hosted(item)
            elif self.refusal is not None:
                self.send_refusal()
                return
            else:
                budget -= _SLICE_COST
                self.feed_held()
        self._settle()

    def _can_go_on(self) -> bool:
        """Whether something waits that nothing before it holds up."""
        if self.current is None:
            if self.write_paused:
                return False
            return bool(self.queue or self.held or self.refusal is not None)
        # The running handler waits for the body that is held.
        return bool(self.held) and self.pending is self.current and not self.paused & PAYLOAD

    def _settle(self) -> None:
        """Set what depends on the state after a turn: reading, readiness, 100 Continue."""
        if self.expecting and self.current is None and not self.queue:
            self.send_continue()
        if self.held and self.state is PARSING:
            self.become(HOLDING)
        if self.held or (self.queue and self.pending is None):
            self.pause(QUEUE)
        else:
            self.resume(QUEUE)
        self.ready = (
            self.current is None and not self.queue and not self.held and not self.write_paused
            and self.state.starts
        )

    # -- the application's handlers

    def start_hosted(self, exchange: Any) -> None:
        if self.flusher is not None:
            self.flush()
        conn = self.conn
        conn.requests += 1
        conn.state = "request"
        self.current = exchange
        # A handler that never waits is done before this returns (3.12): whoever started it
        # goes on with what comes next.
        self.starting = True
        serving = exchange.hosted.serve(exchange)
        if self.service.now.meter is not None:
            serving = self.service.now.meter.hosted(exchange, serving)
        _task(serving, loop=self.loop, name="http")
        self.starting = False

    def hosted_done(self, exchange: Any, status: int, size: int) -> None:
        """The application's handler has answered; `exchange.keep` says what comes next."""
        now = self.idle_since = monotonic()
        service = self.service
        seconds = now - exchange.arrived
        service.counters.answered(status, seconds)
        if service.now.meter is not None and self.state is not UPGRADED:
            service.now.meter.hosted_done(exchange, status, seconds)
        if seconds > service.slow and self.state is not UPGRADED:
            method, target = exchange.named()
            service.counters.note_slow(method, target, seconds)
        if service.log is not None:
            exchange.log(service.log, status, size, now)
        self.current = None
        if self.transport is None:
            return
        if self.state is UPGRADED:
            self.transport.close()
            return
        self.conn.state = "idle"
        if not exchange.is_complete:
            self._answered_early(exchange)
        elif not exchange.keep:
            self.close()
        else:
            if exchange.websocket and self.state is UPGRADING:
                self._upgrade_declined()
            if service.now.closes:
                # Its head was sent before the drain began: the client knows of nothing.
                self.arm(service.now.drain_linger)
            if not self.starting:
                self._next()

    def _answered_early(self, exchange: Any) -> None:
        """Its body is still on its way: read on, for the next request or for the client.

        As :meth:`announce_close` had it said with the answer (RFC 9112 9.3).
        """
        if not exchange.keep:
            self.close_discarding(exchange.left)
            return
        self.body_since = self.idle_since
        self.body_bytes = 0
        exchange.abandon()
        self.arm(self.service.options.body_timeout)
        self._next()

    def _upgrade_declined(self) -> None:
        tail, self.tail = self.tail, b""
        self.become(PARSING)
        self.resume(UPGRADE_TAIL)
        self.held = tail + self.held

    def upgraded(self) -> None:
        """The handler accepted its WebSocket: bytes go there from now on."""
        self.conn.state = "websocket"
        self.become(UPGRADED)
        tail, self.tail = self.tail, b""
        self.resume(UPGRADE_TAIL)
        self.feed_frames(tail)
