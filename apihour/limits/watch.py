"""Connections that are silent, or too slow: closed in time.

Rules:

- Nothing is put between transport and protocol: the kernel is asked (TCP_INFO, tcp(7)) when
  something came last and how much, every few seconds, a few connections at a time.
- Silent is who neither sends nor takes anything for ``idle`` seconds: also one that waits that
  long for an answer, or reads none.
- Slow is who goes on sending, with no answer in between, for ten seconds or more, at less than
  ``min_rate`` bytes a second. Who has sent its question and waits is not slow, nor is one that
  gets answers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from apihour.limits.bind_options import BindOptions

__all__ = ["SilenceWatch"]

# struct tcp_info of linux/tcp.h: last_data_sent at 44, last_data_recv at 52 (milliseconds),
# bytes_acked and bytes_received at 120.
_TCP_INFO = struct.Struct("=44xI4xI64xQQ")
_GRACE = 10.0  # seconds of sending before its speed is judged
_AT_ONCE = 100  # connections looked at in one turn of the loop: some 0.3 ms
_SOONEST, _LATEST = 0.1, 2.0  # seconds between two looks at all of them


class _Burst:
    """What a peer has sent since our last answer: when that began, and what was there before."""

    __slots__ = ("before", "began", "received", "sent")

    def __init__(self, received: int, sent: int) -> None:
        self.began = 0.0
        self.before = self.received = received
        self.sent = sent

    def is_slow(self, now: float, received: int, sent: int, least: int) -> bool:
        """Whether the peer is; of `received` bytes, and `sent` ones that it has acknowledged."""
        known, is_answered = self.received, sent != self.sent
        self.received, self.sent = received, sent
        if is_answered:
            self.before = received
        elif received == known:
            pass  # it waits, or says nothing
        elif known == self.before:
            self.began = now  # the first look at what it sends now
        elif now - self.began >= _GRACE:
            is_slow = received - self.before < least * (now - self.began)
            self.before = received  # a quick beginning buys no time
            return is_slow
        return False


class SilenceWatch:
    """Looks at the connections that `rows` gives, and closes those that are over `options`."""

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, rows: Callable[[], Iterable[Any]],
        log: logging.Logger,
    ) -> None:
        self.closed = 0
        self._name = name
        self._loop = loop
        self._rows = rows
        self._log = log
        self._options = BindOptions()
        self._bursts: dict[int, _Burst] = {}
        self._timer: asyncio.TimerHandle | None = None

    def change(self, options: BindOptions) -> None:
        """From now on these hold; where they ask nothing, nothing is looked at."""
        self._options = options
        self.stop()
        if options.idle is not None or options.min_rate is not None:
            self._later()
        else:
            self._bursts.clear()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
        wait = min(_LATEST, max(_SOONEST, (self._options.idle or 8 * _LATEST) / 8))
        self._timer = self._loop.call_later(wait, self._begin)

    def _begin(self) -> None:
        self._look(deque(self._rows()), {})

    def _look(self, rest: deque[Any], kept: dict[int, _Burst]) -> None:
        """Look at the first of `rest`; `kept` are the bursts of those that were looked at."""
        now = time.monotonic()
        for _ in range(min(_AT_ONCE, len(rest))):
            conn = rest.popleft()
            why = self._why_over(conn, now, kept)
            if why:
                self.closed += 1
                self._log.debug("server %r: connection of %s closed: %s", self._name, conn.peer,
                                why)
                conn.close(why)
        if rest:
            self._timer = self._loop.call_later(0, self._look, rest, kept)
            return
        self._bursts = kept
        self._later()

    def _why_over(self, conn: Any, now: float, kept: dict[int, _Burst]) -> str:
        if conn.sock.fileno() < 0:
            return ""
        try:
            info = conn.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except OSError:
            return ""  # it is gone, and its row goes
        since_sent, since_received, sent, received = _TCP_INFO.unpack_from(info)
        idle, least = self._options.idle, self._options.min_rate
        if idle is not None and min(since_sent, since_received) > idle * 1000:
            return "idle"
        if least is not None:
            burst = self._bursts.get(conn.id) or _Burst(received, sent)
            kept[conn.id] = burst
            if burst.is_slow(now, received, sent, least):
                return "slow"
        return ""
