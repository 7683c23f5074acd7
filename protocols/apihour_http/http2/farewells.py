"""The goodbye of a connection in two steps, so that no request is lost (RFC 9113 6.8).

Rules:

- The first GOAWAY names no stream: requests that are on their way still count. A PING behind it
  comes back once the client has read it; from then on it sends no more of them.
- The second names the last that was taken; one beyond it is refused, which tells the client that
  it may send it again elsewhere. Then the streams end, and the connection.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from apihour_http.http2.frame_bytes import MOST_WINDOW, NO_ERROR, PING, frame, goaway

__all__ = ["TwoSteps"]

_MARK = b"goodbye\0"
# Seconds that a client has to answer the PING.
_PATIENCE = 1.0


class TwoSteps:
    """The goodbye of one connection `s`."""

    __slots__ = ("_last", "_s", "deadline", "is_said")

    def __init__(self, s: Any) -> None:
        self._s: Any = s
        self._last = MOST_WINDOW
        self.deadline = 0.0
        """When the second step comes at the latest; 0 before the first, and after both."""
        self.is_said = False

    def end(self) -> None:
        """The connection is gone: nothing leads to it from here."""
        self._s = None

    def begin(self) -> None:
        """Take the first step."""
        s = self._s
        if s is None or s.transport is None or s.closing_since or self.deadline or self.is_said:
            return
        self.deadline = monotonic() + min(_PATIENCE, s.service.now.drain_linger or _PATIENCE)
        s.out.send(goaway(MOST_WINDOW, NO_ERROR) + frame(PING, 0, 0, _MARK))
        s.watch.soon()

    def heard(self, payload: bytes) -> None:
        """A PING came back."""
        if payload == _MARK and self.deadline:
            self.say()

    def say(self) -> None:
        """Take the second step; an idle connection closes with it."""
        s = self._s
        self.deadline = 0.0
        self.is_said = True
        self._last = s.last
        if s.streams:
            s.out.send(goaway(s.last, NO_ERROR))
        else:
            s.close()

    def refuses(self, number: int) -> bool:
        """Whether a new stream comes too late."""
        return number > self._last
