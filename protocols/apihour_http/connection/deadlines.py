"""The deadlines of a connection: how long each of its states may last.

Rule: one timer per connection; it looks at the state when it fires and sets itself again.
So a request costs no timer. Nor does a connection that is gone within a second, unless it
has a deadline that soon: the server's own timer gives those that stay theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from apihour_http.connection.refusals import refuse
from apihour_http.connection.states import DISCARDING
from apihour_http.errors import BadRequest

__all__ = ["DISCARD_SECONDS", "Deadlines"]

# After the last answer: seconds of silence and seconds in all until the end.
DISCARD_SECONDS = 1.0
_DISCARD_IN_ALL = 10.0
# Deadlines within so many seconds need a timer at once; the server looks every second.
_SOON = 2.0
# Seconds between two looks at a connection whose state has no deadline.
_LOOK = 15.0
_NEVER = float("inf")


class Deadlines:
    """When one connection is looked at again, and what is done then."""

    __slots__ = ("_at", "_lane", "_timer", "_write_mark")

    def __init__(self, lane: Any, now: float) -> None:
        self._lane = lane
        self._timer: asyncio.TimerHandle | None = None
        self._write_mark = (0.0, 0)
        goodbye = lane.service.now
        delay = goodbye.drain_linger if goodbye.draining else self._silence()
        self._at = now + delay
        if delay > _SOON:
            lane.service.opened.newcomers.add(lane)
        else:
            self._timer = lane.loop.call_later(delay, self.look)

    def arm(self, delay: float) -> None:
        """Look at the connection again in `delay` seconds at the latest."""
        when = monotonic() + delay
        if when < self._at and self._lane is not None:
            self._at = when
            if self._timer is not None:
                self._timer.cancel()
            elif delay > _SOON:
                return
            self._timer = self._lane.loop.call_later(delay, self.look)

    def set_timer(self) -> None:
        """Give a connection that stays a timer of its own."""
        if self._timer is None and self._lane is not None:
            delay = max(0.0, self._at - monotonic())
            self._timer = self._lane.loop.call_later(delay, self.look)

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._lane = None

    def writing_stopped(self) -> None:
        """The client takes nothing from now on."""
        self._mark_writing()
        self.arm(self._lane.service.options.write_timeout)

    def _mark_writing(self) -> None:
        self._write_mark = (monotonic(), self._lane.transport.get_write_buffer_size())

    def look(self) -> None:
        """Act on a deadline that has passed, or come back at the next one."""
        lane = self._lane
        if lane is None:
            return
        now = monotonic()
        when, act = self._deadline(now)
        if when <= now:
            act()
            if lane.transport is None:
                return
            when = now + DISCARD_SECONDS
        delay = min(_LOOK, lane.service.keepalive or _LOOK) if when == _NEVER else when - now
        # uvloop's clock has milliseconds: never come back a hair too early.
        delay += 0.001
        self._at = now + delay
        self._timer = lane.loop.call_later(delay, self.look)

    def _deadline(self, now: float) -> tuple[float, Callable[[], None]]:
        """When the present state has lasted too long, and what to do then."""
        lane = self._lane
        intake, answers, options = lane.intake, lane.answers, lane.service.options
        if lane.transport.is_closing() or lane.write_paused:
            since, size = self._write_mark
            if not since or lane.transport.get_write_buffer_size() < size:
                self._mark_writing()
                since = now
            return since + options.write_timeout, lane.abort
        if lane.state is DISCARDING and answers.refusal is None and answers.current is None:
            return min(lane.idle_since + DISCARD_SECONDS,
                       intake.body_since + _DISCARD_IN_ALL), lane.abort
        if not lane.state.times:
            return _NEVER, lane.abort
        if intake.pending is not None and not lane.reading.paused:
            allowance = intake.body_bytes / options.body_rate if options.body_rate else 0.0
            return intake.body_since + options.body_timeout + allowance, self._too_slow
        if answers.current is not None or answers.queue:
            return _NEVER, lane.abort
        if intake.urls or intake.head_bytes:
            return intake.head_since + options.header_timeout, self._too_slow
        return self._quiet(), lane.close

    def _quiet(self) -> float:
        """When the silence between two requests has lasted long enough."""
        lane = self._lane
        goodbye = lane.service.now
        quiet: float = lane.idle_since + self._silence()
        if goodbye.draining:
            since = max(lane.idle_since, goodbye.drain_since)
            quiet = min(quiet, since + goodbye.drain_linger)
        return quiet

    def _silence(self) -> float:
        """Seconds of silence until the end; without keep-alive, a first request is waited for."""
        service = self._lane.service
        keepalive: float = service.keepalive
        return keepalive if keepalive or self._lane.conn.requests else (
            service.options.header_timeout)

    def _too_slow(self) -> None:
        self._lane.service.counters.timeouts += 1
        refuse(self._lane, BadRequest("the request took too long to arrive", 408))
