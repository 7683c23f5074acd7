"""Takes the factory of protocols from a library that insists on opening its own port.

Rules:

- The loop's ``create_server`` and ``create_unix_server`` are stood in for once, and ask a context
  variable: only what is called while :func:`capturing`, or by tasks begun there, is meant.
- One is taken. A second one within the same start is an error; those opened later, when the
  library serves (FTP's data connections), are opened as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Captured", "Handle", "capturing"]

_NAMES = ("create_server", "create_unix_server")
_current: contextvars.ContextVar[Captured | None] = contextvars.ContextVar(
    "apihour_tcp_captured", default=None)


class Handle(asyncio.AbstractServer):
    """What a library gets for the server that it asked for: the host accepts for it."""

    sockets: tuple[()] = ()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closed = loop.create_future()
        self.awaited: asyncio.Future[None] = loop.create_future()
        """Done when somebody waits for its end: the library is ready, and serves for ever."""

    def close(self) -> None:
        """Nothing more comes to the library; called by it, or when the host is done."""
        if not self._closed.done():
            self._closed.set_result(None)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it belongs to."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it is open."""
        return not self._closed.done()

    async def start_serving(self) -> None:
        """Nothing to do: the host accepts."""

    async def serve_forever(self) -> None:
        """Return when it is closed."""
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Return when it is closed."""
        if not self.awaited.done():
            self.awaited.set_result(None)
        await asyncio.shield(self._closed)


class Captured:
    """The factory that a library gave while it started."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.handle = Handle(loop)
        self.factory: Callable[[], Any] | None = None
        self.is_over = False
        """Whether the start is: what is opened from now on is the library's own business."""
        self.ready: asyncio.Future[None] = loop.create_future()

    def take(self, factory: Callable[[], Any], ssl: Any) -> Handle:
        """Take it. Raises RuntimeError for a second one, or TLS, which is the bind's business."""
        if self.factory is not None:
            raise RuntimeError("a second server was opened; expected one for each entry of "
                               "make_servers()")
        if ssl is not None:
            raise RuntimeError("the library was told to end TLS; expected it at the bind: "
                               "ADDRESS?tls")
        self.factory = factory
        if not self.ready.done():
            self.ready.set_result(None)
        return self.handle


@contextlib.contextmanager
def capturing(captured: Captured) -> Iterator[None]:
    """What is called meanwhile, and by tasks that begin meanwhile, gives its factory."""
    loop = captured.handle.get_loop()
    for name in _NAMES:
        if not hasattr(getattr(loop, name), "_stands_in"):
            setattr(loop, name, _stand_in(getattr(loop, name)))
    token = _current.set(captured)
    try:
        yield
    finally:
        _current.reset(token)


def _stand_in(create: Callable[..., Any]) -> Callable[..., Any]:
    async def create_server(protocol_factory: Callable[[], Any], *words: Any, **more: Any) -> Any:
        captured = _current.get()
        if captured is None or captured.is_over:
            return await create(protocol_factory, *words, **more)
        return captured.take(protocol_factory, more.get("ssl"))

    create_server._stands_in = True  # type: ignore[attr-defined]
    return create_server
