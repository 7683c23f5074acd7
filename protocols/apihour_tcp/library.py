"""LibraryServer: a server of a library that opens its own port, on the host's bind instead.

Rules:

- The library is called as its documentation says; the address it is given means nothing.
- Accepting is the host's: addresses, limits, TLS, bans, the connection table and its balance hold
  as for any protocol class.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from apihour_tcp.capture import Captured, capturing
from apihour_tcp.factories import describe
from apihour_tcp.server import TCPServer

__all__ = ["LibraryServer"]

_SETTLING = 1.0  # seconds given to a library that has opened its server, and does not return
_ENDS = ("stop", "close")  # what a library's object is ended by, the first that it has


class LibraryServer:
    """Serve what `start` opens.

    `start` takes no arguments; it begins the library's server in the running loop, by
    ``loop.create_server`` or ``asyncio.start_server`` (also inside the library), and returns its
    object, or an awaitable of it. One that never returns (``serve_forever``) is fine.

    `drain` is called with that object when the worker retires, to say goodbye in the library's own
    words; without it connections stay until they end, or the deadline. `stop` is called with it
    at the end, when connections are gone; without it the object's ``stop()`` or ``close()``, if it
    has one. Both may be asynchronous.
    """

    protocol = "tcp"

    def __init__(
        self, start: Callable[[], Any], *, drain: Callable[[Any], Any] | None = None,
        stop: Callable[[Any], Any] | None = None,
    ) -> None:
        if not callable(start):
            raise TypeError(f"LibraryServer({start!r}): expected a callable without arguments")
        self._start = start
        self._drain = drain
        self._end = stop
        self._captured: Captured | None = None
        self._task: asyncio.Task[Any] | None = None
        self._served: TCPServer | None = None

    def __repr__(self) -> str:
        return f"LibraryServer({describe(self._start)})"

    async def start(self, context: Any = None) -> None:
        """Start the library. Raises what it raises; RuntimeError when it opened no server."""
        loop = asyncio.get_running_loop()
        captured = self._captured = Captured(loop)
        with capturing(captured):
            self._task = loop.create_task(self._begin())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait([self._task, captured.ready], return_when=first)
        # It may open its server before it is ready.
        await asyncio.wait([self._task, captured.handle.awaited], return_when=first,
                           timeout=_SETTLING)
        if self._task.done() and self._task.exception() is not None:
            await self._task
        if captured.factory is None:
            raise RuntimeError(f"{describe(self._start)} opened no server; expected a call of "
                               "loop.create_server() or asyncio.start_server()")
        self._served = TCPServer(_plain(captured.factory))
        await self._served.start(context)
        captured.is_over = True

    async def _begin(self) -> Any:
        made = self._start()
        return await made if inspect.isawaitable(made) else made

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is the host's row for it."""
        assert self._served is not None
        return self._served.stream(conn)

    async def drain(self, deadline: float) -> None:
        """Say goodbye as `drain` does; return when the last connection is gone.

        `deadline` is a time of ``loop.time()``: at it, return with connections left.
        """
        assert self._served is not None
        if self._drain is not None:
            await _finish(self._drain(self._made()))
        await self._served.drain(deadline)

    async def stop(self) -> None:
        """End the library's server, and what is left of its connections."""
        task, self._task = self._task, None
        if self._served is not None:
            await self._served.stop()
        if self._captured is not None:
            self._captured.handle.close()
        if task is None:
            return
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        elif not task.cancelled() and task.exception() is None:
            await _finish(self._stop(task.result()))

    def _made(self) -> Any:
        task = self._task
        done = task is not None and task.done() and not task.cancelled()
        return task.result() if task is not None and done else None

    def _stop(self, made: Any) -> Any:
        if self._end is not None:
            return self._end(made)
        end = next((found for name in _ENDS if callable(found := getattr(made, name, None))), None)
        return None if end is None else end()

    def statistics(self) -> Mapping[str, Any]:
        """Those of :class:`TCPServer`."""
        return {} if self._served is None else self._served.statistics()


async def _finish(result: Awaitable[Any] | Any) -> None:
    if inspect.isawaitable(result):
        await result


def _plain(factory: Callable[[], Any]) -> Callable[[], asyncio.Protocol]:
    """The factory as a function that promises a protocol: it is not tried before it is needed."""

    def make() -> asyncio.Protocol:
        made: asyncio.Protocol = factory()
        return made

    return make
