"""When a connection that its client keeps may be ended without taking a session from anybody.

Rules:

- No I/O and no clock: times in seconds come from the caller and never go back.
- Between two sessions nobody can see whether the next is on its way, so the moment is chosen
  by what the client did before: a quarter into its usual pause nothing is under way.
- A client without pauses is left to go on; one that has had its only session is given time to
  leave by itself: a disconnect that overtakes OpenSSH's own would turn its exit status into 255.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Parting"]

# A login has just ended: its session is on its way.
_BEFORE_FIRST = 10.0
_AFTER_FIRST = 2.0
# A shorter pause is not told from a session that is on its way.
_SHORTEST = 0.05
_REMEMBERED = 4  # pauses


class Parting:
    """The pauses between the sessions of one connection.

    `rtt`: seconds that a packet and its answer take. A disconnect has to reach the client
    before its next session begins, so a pause counts only when it is longer than that.
    """

    def __init__(self, now: float) -> None:
        self.rtt = 0.0
        self._empty_since = now
        self._sessions = 0
        self._pauses: deque[float] = deque(maxlen=_REMEMBERED)

    def opened(self, now: float, was_empty: bool) -> None:
        """A session began; `was_empty`: no other was open."""
        if self._sessions and was_empty:
            self._pauses.append(now - self._empty_since)
        self._sessions += 1

    def emptied(self, now: float) -> None:
        """The last session ended."""
        self._empty_since = now

    @property
    def wait(self) -> float:
        """Seconds after the last session at which the moment comes."""
        if not self._sessions:
            return _BEFORE_FIRST
        shortest = min(self._pauses, default=0.0)
        return min(shortest / 4, _AFTER_FIRST) if self._rests() else _AFTER_FIRST

    def is_time(self, now: float) -> bool:
        """Whether the client, which has no session open, may be disconnected now."""
        empty = now - self._empty_since
        if empty < self.wait:
            return False
        shortest, longest = min(self._pauses, default=0.0), max(self._pauses, default=0.0)
        # The last quarter is the next session's; it does not come for ever.
        return not self._rests() or empty <= shortest * 3 / 4 or empty >= 2 * longest

    def _rests(self) -> bool:
        """Whether even its shortest pause leaves time to part."""
        return min(self._pauses, default=0.0) >= max(_SHORTEST, 2 * self.rtt)
