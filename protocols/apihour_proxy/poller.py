"""Which sockets are ready, by an epoll(7) of our own that the loop watches.

Rules:

- Edge-triggered: a socket is entered once, and no system call says again what is waited for. Who
  does not read all that is there asks for another turn by :meth:`Poller.again`.
- An event tells of ends and resets too, which uvloop's ``add_reader`` does not: libuv calls back
  once for a socket with an error, and then no more, whatever is left to be read.
- A duplicate must be left before it is closed: epoll forgets a description, not a descriptor.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

__all__ = ["ENDS", "READABLE", "WRITABLE", "Poller"]

ENDS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
READABLE = select.EPOLLIN | ENDS
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_ALL = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_BATCH = 256  # events that are taken at once

Ready = Callable[[int], None]
"""Gets the events of a descriptor."""


class Poller:
    """Tells of sockets by descriptor; one of a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._again: dict[Callable[[], None], None] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def enter(self, descriptor: int, ready: Ready) -> None:
        """Have `ready` called with what happens there, from now on. Raises OSError."""
        if descriptor not in self._ready:
            self._epoll.register(descriptor, _ALL)
        self._ready[descriptor] = ready

    def leave(self, descriptor: int) -> None:
        """Tell no more of it; a second time does nothing."""
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """As :meth:`leave`, for the only descriptor of a socket that is about to be closed."""
        self._ready.pop(descriptor, None)

    def again(self, what: Callable[[], None]) -> None:
        """Call it in the next turn: others come first."""
        if not self._again:
            self._loop.call_soon(self._call_again)
        self._again[what] = None

    def close(self) -> None:
        """End it."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._ready.clear()
        self._again.clear()

    def _call_again(self) -> None:
        again, self._again = self._again, {}
        for what in again:
            try:
                what()
            except Exception as error:  # it must not cost the others their turn
                self._report(error)

    def _turn(self) -> None:
        for descriptor, events in self._epoll.poll(0, _BATCH):
            ready = self._ready.get(descriptor)
            if ready is not None:
                try:
                    ready(events)
                except Exception as error:  # an edge is told once, and others' are behind it
                    self._report(error)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({
            "message": "a proxied connection failed", "exception": error})
