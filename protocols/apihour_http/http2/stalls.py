"""The deadlines of a connection and its streams: what must not last.

Rule: one timer per connection, which looks at everything when it fires; it fires often only
while something is under way that must not last. A request that is answered costs no timer.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from apihour_http.errors import BadRequest
from apihour_http.http2.beginnings import fail_body
from apihour_http.http2.frame_bytes import CANCEL, ENHANCE_YOUR_CALM

__all__ = ["Stalls"]

# Seconds between two looks while something is under way; others.
_OFTEN = 0.5
_SELDOM = 15.0
# After the last frame: seconds until the end.
_DISCARDING = 2.0


class Stalls:
    """When the connection `s` is looked at again, and what is done then."""

    __slots__ = ("_at", "_s", "_timer", "_write_mark")

    def __init__(self, s: Any, now: float) -> None:
        self._s: Any = s
        self._write_mark = (0.0, 0)
        self._at = now + _OFTEN
        self._timer: asyncio.TimerHandle | None = s.loop.call_later(_OFTEN, self.look)

    def soon(self) -> None:
        """Something is under way that must not last."""
        if self._timer is not None and self._at - monotonic() > _OFTEN:
            self._timer.cancel()
            self._set(_OFTEN)

    def end(self) -> None:
        """The connection is gone: nothing leads to it from here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._s = None

    def writing_stopped(self) -> None:
        """The client takes nothing from now on."""
        self._write_mark = (monotonic(), self._s.transport.get_write_buffer_size())
        self.soon()

    def _set(self, delay: float) -> None:
        self._at = monotonic() + delay
        self._timer = self._s.loop.call_later(delay + 0.001, self.look)

    def look(self) -> None:
        """Act on what has lasted too long, and come back."""
        s = self._s
        if s is None or self._timer is None:
            return
        now = monotonic()
        self._timer.cancel()
        self._look(s, now)
        if s.transport is not None and self._timer is not None:
            self._set(self._next(s, now))

    def _next(self, s: Any, now: float) -> float:
        if s.closing_since or s.amid_since or s.out.paused or s.farewell.deadline or any(
            lane.stalled_since or not lane.is_complete for lane in s.streams.values()
        ):
            return _OFTEN
        if s.streams:
            return _SELDOM
        left: float = s.idle_since + self._silence(s) - now
        return max(_OFTEN / 10, min(_SELDOM, left))

    def _look(self, s: Any, now: float) -> None:
        options = s.service.options
        if s.closing_since:
            if now > s.closing_since + _DISCARDING and not self._is_taking(now, options):
                s.abort()
            return
        if s.out.paused and not self._is_taking(now, options):
            s.abort()
            return
        if s.amid_since and now > s.amid_since + options.header_timeout + self._allowed(
                options, s.reader.partial_size()):
            s.service.counters.timeouts += 1
            s.fail(ENHANCE_YOUR_CALM, "a frame took too long to arrive")
            return
        for lane in list(s.streams.values()):
            self._look_at(lane, now, options)
        if s.farewell.deadline and now >= s.farewell.deadline:
            s.farewell.say()
        elif not s.streams and now >= s.idle_since + self._silence(s):
            s.close()

    def _is_taking(self, now: float, options: Any) -> bool:
        """Whether a client that does not read all has read something in time."""
        since, size = self._write_mark
        left: int = self._s.transport.get_write_buffer_size()
        if left < size or not since:
            self._write_mark = (now, left)
            return left > 0
        patience: float = options.write_timeout
        return left > 0 and now < since + patience

    def _look_at(self, lane: Any, now: float, options: Any) -> None:
        s = self._s
        if lane.stalled_since and now > lane.stalled_since + options.write_timeout:
            lane.break_off(CANCEL)
        elif (lane.request is None and lane.exchange is None) or lane.is_complete:
            return
        elif lane.is_payload_paused or lane.withheld or s.window_in <= 0 or s.is_left_over:
            return  # it is not the client that is waited for
        elif now > lane.body_since + options.body_timeout + self._allowed(
                options, lane.body_bytes + s.reader.partial_size()):
            s.service.counters.timeouts += 1
            fail_body(lane, BadRequest("the request took too long to arrive", 408))

    @staticmethod
    def _allowed(options: Any, size: int) -> float:
        """Seconds that so many bytes may take."""
        return size / options.body_rate if options.body_rate else 0.0

    @staticmethod
    def _silence(s: Any) -> float:
        """Seconds that an idle connection stays."""
        return float(s.service.keepalive or s.service.options.header_timeout)
