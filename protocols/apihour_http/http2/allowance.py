"""What a client may have open, and have done that moves nothing: frames that cost us more than it.

Rules:

- SETTINGS, PING, PRIORITY, WINDOW_UPDATE, unknown frames and empty DATA cost; a stream that is
  reset, by whichever side, costs much: its request was work for nobody (CVE-2023-44487, and
  CVE-2025-8671, where the client has the server reset it).
- Answers that are taken give something back, since they are what such frames are for. So does
  time, little.
"""

from __future__ import annotations

from apihour_http.http2.frame_bytes import ENHANCE_YOUR_CALM, ConnectionBroken

__all__ = ["FRAME", "MOST_STREAMS", "RESET", "STREAM_WINDOW", "Allowance"]

MOST_STREAMS = 100  # 6.5.2: what is recommended at least
STREAM_WINDOW = 1 << 17  # bytes of one body that nobody has taken

FRAME = 1.0
RESET = 5.0
_MOST = 1000.0  # 200 resets at once: a browser that leaves a page resets as many as it had open
_PER_SECOND = 100.0


class Allowance:
    """What is left of it, of one connection; `now` is monotonic time."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._left = _MOST
        self._since = now

    def spend(self, cost: float, now: float) -> None:
        """Take it off. Raises ConnectionBroken when there is nothing left."""
        self._left -= cost
        if self._left < 0:
            self._left = min(_MOST, self._left + (now - self._since) * _PER_SECOND)
            self._since = now
            if self._left < 0:
                raise ConnectionBroken(ENHANCE_YOUR_CALM, "too many frames that move nothing")

    def give(self, much: float) -> None:
        """Something was of use."""
        if self._left < _MOST:
            self._left += much
