"""Who answers on a connection for now: it stands where the application's side stands.

Rules:

- What a connection tells its application's side (``hosting.HostedSide``) it tells this one while
  an answer is made here; the other side hears of what concerns it, and is back after that.
- A pipelined request for the application meanwhile gets its exchange from that side.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Side"]


class Side:
    """The side of one connection that is being answered by an endpoint, piece by piece."""

    __slots__ = ("_before", "lane")

    def __init__(self, lane: Any) -> None:
        self.lane = lane
        self._before: Any = None

    def take(self) -> None:
        """Stand on the connection from now on."""
        self._before, self.lane.hosted = self.lane.hosted, self

    def give_back(self) -> None:
        """Stand aside."""
        if self.lane.hosted is self:
            self.lane.hosted = self._before

    # -- what the connection tells; the rest is for those who stand here

    def exchange(self, *head: Any) -> Any:
        """The application's exchange of a request behind ours."""
        if self._before is None:
            self._before = self.lane.service.app_host.connect(self.lane)
        return self._before.exchange(*head)

    def must_know_of_end(self) -> bool:
        """Whether a client that sends no more is taken for gone: it still reads.

        Not while its body is awaited.
        """
        return isinstance(self._before, Side) and self._before.must_know_of_end()

    def announce_close(self) -> None:
        """The server drains."""

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._before is not None:
            self._before.pause_writing()

    def resume_writing(self) -> None:
        """The client reads on."""
        if self._before is not None:
            self._before.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self._before is not None:
            self._before.connection_lost(exc)
            self._before = None
