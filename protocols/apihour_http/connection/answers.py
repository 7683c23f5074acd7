"""The order of a connection's answers: what runs, what waits, and what comes next.

Rules:

- At most one request runs at a time; others wait in ``queue``, in the order received.
- A direct endpoint starts when its message is complete; the application's handler starts
  when the head is complete, its body is streamed.
- An idle connection's complete request is dispatched straight from ``data_received``.
- After a budget of pipelined answers the other connections get their turn.
- After ``end()`` there is no connection: what still runs finds ``lane.transport`` None.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from apihour_http.connection.reading import PAYLOAD, QUEUE, UPGRADE_TAIL
from apihour_http.connection.refusals import send_refusal
from apihour_http.connection.states import DISCARDING, HOLDING, PARSING, UPGRADED, UPGRADING
from apihour_http.errors import HTTPError
from apihour_http.request import Request

__all__ = ["Answers"]

# What a slice costs of the budget of a turn: one-byte chunks make it a millisecond.
_SLICE_COST = 8

_EAGER = sys.version_info >= (3, 12)

if sys.version_info >= (3, 12):

    def _task(coro: Any, loop: asyncio.AbstractEventLoop, name: str) -> asyncio.Task[None]:
        return asyncio.Task(coro, loop=loop, name=name, eager_start=True)
else:
    _task = asyncio.Task


class Answers:
    """What one connection answers, in the order in which it was asked."""

    __slots__ = ("began", "current", "inline", "lane", "queue", "refusal", "refused", "starting")

    def __init__(self, lane: Any) -> None:
        self.lane = lane
        self.queue: deque[Any] = deque()
        self.current: Any = None
        self.inline: Any = None  # the request whose plain function runs
        self.starting = False
        self.refusal: HTTPError | None = None
        self.refused: Any = None  # the request of that refusal, when it is known
        self.began = 0.0

    def end(self) -> Any:
        """The connection is gone; what still runs is returned."""
        self.queue.clear()
        self.refused = None
        current = self.current
        if current is None:
            self.lane = None
        elif isinstance(current, asyncio.Task):
            current.add_done_callback(self.release)
        return current

    def release(self, task: asyncio.Task[None]) -> None:
        """What ran when the connection was lost is done: without a cycle all is freed.

        A task that was cancelled keeps its error, whose frames lead here.
        """
        self.lane = self.current = None

    # -- direct endpoints

    def start(self, request: Request) -> None:
        """Run a direct endpoint."""
        endpoint = request.endpoint
        lane = self.lane
        conn = lane.conn
        conn.requests += 1
        conn.state = "request"
        if endpoint.inline:
            self.inline = request
            try:
                result = endpoint.call(request)
            except Exception as error:
                result = lane.service.failed(request, error)
            self.inline = None
            more = lane.answer(request, result)
            if more is not None:
                self.send(request, more)
        else:
            self.run(request)

    def run(self, request: Request) -> None:
        """Run the coroutine of a direct endpoint, where its answer is not known at once."""
        first = request.endpoint.first
        if first is not None and self._is_known(request, first):
            return
        task = _task(self._run(request), loop=self.lane.loop, name=request.endpoint.name)
        if not (_EAGER and task.done()):
            self.current = task

    def _is_known(self, request: Request, first: Callable[[Any], Any]) -> bool:
        """Answer with what `first` knows; False where it knows nothing."""
        lane = self.lane
        try:
            result = first(request)
        except Exception as error:
            result = lane.service.failed(request, error)
        if result is None:
            return False
        more = lane.answer(request, result)
        if more is not None:
            self.send(request, more)
        return True

    def send(self, request: Request, more: Coroutine[Any, Any, None]) -> None:
        """Send what a plain function began."""
        task = _task(self._send(request, more), loop=self.lane.loop, name=request.endpoint.name)
        if not (_EAGER and task.done()):
            self.current = task

    async def _run(self, request: Request) -> None:
        """The body of the task of one endpoint."""
        lane = self.lane
        try:
            result = await request.endpoint.call(request)
        except asyncio.CancelledError:
            lane.abort()
            raise
        except Exception as error:
            result = lane.service.failed(request, error)
        queue = self.queue
        if queue and lane.outbox is None and type(queue[0]) is Request and not (
            queue[0].endpoint.inline or lane.transport is None
        ):
            lane.hold_answers()
        more = lane.answer(request, result)
        if more is not None:
            await more
        if self.current is not None:
            self.current = None
            # As _next(): a call less in every request.
            intake = lane.intake
            if queue or intake.held or self.refusal is not None or intake.expecting:
                self.advance()
            else:
                lane.ready = lane.state.starts and not lane.write_paused

    async def _send(self, request: Request, more: Coroutine[Any, Any, None]) -> None:
        """The body of the task that sends what a plain function began; `request` is shown."""
        await more
        if self.current is not None:
            self.current = None
            self._next()

    def _next(self) -> None:
        """Go on after an answer that did not come at once."""
        lane = self.lane
        intake = lane.intake
        if self.queue or intake.held or self.refusal is not None or intake.expecting:
            self.advance()
        else:
            lane.ready = lane.state.starts and not lane.write_paused

    # -- order

    def advance(self) -> None:
        """Start what waits."""
        lane = self.lane
        if lane is None:
            return
        intake = lane.intake
        budget = lane.service.options.budget
        if len(self.queue) > 1 and lane.outbox is None and lane.transport is not None:
            lane.hold_answers()
        while lane.transport is not None and self._can_go_on():
            if lane.transport.is_closing():
                self.queue.clear()
                intake.held = b""
                return
            if budget <= 0:
                lane.reading.pause(QUEUE)
                lane.loop.call_soon(self.advance)
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
                send_refusal(lane)
                return
            else:
                budget -= _SLICE_COST
                intake.feed_held()
        self._settle()

    def _can_go_on(self) -> bool:
        """Whether something waits that nothing before it holds up."""
        lane = self.lane
        held = lane.intake.held
        if self.current is None:
            if lane.write_paused:
                return False
            return bool(self.queue or held or self.refusal is not None)
        # The running handler waits for the body that is held.
        return (bool(held) and lane.intake.pending is self.current
                and not lane.reading.paused & PAYLOAD)

    def _settle(self) -> None:
        """Set what depends on the state after a turn: reading, readiness, 100 Continue."""
        lane = self.lane
        intake = lane.intake
        if intake.expecting and self.current is None and not self.queue:
            intake.send_continue()
        if intake.held and lane.state is PARSING:
            lane.become(HOLDING)
        if intake.held or (self.queue and intake.pending is None):
            lane.reading.pause(QUEUE)
        else:
            lane.reading.resume(QUEUE)
        lane.ready = (
            self.current is None and not self.queue and not intake.held
            and not lane.write_paused and lane.state.starts
        )

    # -- the application's handlers

    def start_hosted(self, exchange: Any) -> None:
        """Run the application's handler."""
        lane = self.lane
        if lane.outbox is not None:
            lane.flush()
        conn = lane.conn
        conn.requests += 1
        conn.state = "request"
        self.current = exchange
        # A handler that never waits is done before this returns (3.12): whoever started it
        # goes on with what comes next.
        self.starting = True
        serving = exchange.hosted.serve(exchange)
        for watcher in lane.service.now.watchers:
            serving = watcher.hosted(exchange, serving)
        _task(serving, loop=lane.loop, name="http")
        self.starting = False

    def hosted_done(self, exchange: Any, status: int, size: int) -> None:
        """The application's handler has answered; `exchange.keep` says what comes next."""
        lane = self.lane
        now = lane.idle_since = monotonic()
        service = lane.service
        seconds = now - exchange.arrived
        service.counters.answered(status, seconds)
        if service.now.watchers and lane.state is not UPGRADED:
            for watcher in service.now.watchers:
                watcher.hosted_done(exchange, status, seconds)
        if seconds > service.slow and lane.state is not UPGRADED:
            method, target = exchange.named()
            service.counters.note_slow(method, target, seconds)
        if service.log is not None:
            exchange.log(service.log, status, size, now)
        self.current = None
        if lane.transport is None:
            self.lane = None
            return
        if lane.state is UPGRADED:
            lane.transport.close()
            return
        lane.conn.state = "idle"
        if not exchange.is_complete:
            self._answered_early(exchange)
        elif not exchange.keep:
            lane.close()
        elif (exchange.websocket or self.starting or service.now.closes or self.queue
              or self.refusal is not None or lane.intake.held or lane.intake.expecting):
            self._stay(exchange)
        else:
            # As _stay() and _next(): two calls less in every request.
            lane.ready = lane.state.starts and not lane.write_paused

    def upload_done(self, exchange: Any) -> None:
        """An endpoint that took its body as it came has answered, and was counted."""
        lane = self.lane
        self.current = None
        if lane.transport is None:
            self.lane = None
        elif lane.state is DISCARDING:
            # It was the last, or is behind the last: a refusal, the client's end.
            if not self.starting:
                self._next()
        elif not exchange.is_complete:
            self._answered_early(exchange)
        else:
            self._stay(exchange)

    def _stay(self, exchange: Any) -> None:
        """The connection goes on after `exchange`."""
        lane = self.lane
        if exchange.websocket and lane.state is UPGRADING:
            tail, lane.tail = lane.tail, b""
            lane.become(PARSING)
            lane.reading.resume(UPGRADE_TAIL)
            lane.intake.held = tail + lane.intake.held
        if lane.service.now.closes:
            # Its head was sent before the drain began: the client knows of nothing.
            lane.deadlines.arm(lane.service.now.drain_linger)
        if not self.starting:
            self._next()

    def _answered_early(self, exchange: Any) -> None:
        """Its body is still on its way: read on, for the next request or for the client.

        As :meth:`announce_close` had it said with the answer (RFC 9112 9.3).
        """
        lane = self.lane
        if not exchange.keep:
            lane.close_discarding(exchange.left)
            return
        lane.intake.measure_body(lane.idle_since)
        exchange.abandon()
        lane.deadlines.arm(lane.service.options.body_timeout)
        self._next()
