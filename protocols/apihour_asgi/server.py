"""ASGIServer: one ASGI 3 application as a server.

Rules:

- uvicorn's protocols do the talking; what is private of them stands in ``_uvicorn.py``.
- Draining breaks no request: the next response on every kept connection says
  ``Connection: close`` (RFC 9112, section 9.6), and only who stays silent past the linger
  time is closed without one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from apihour_asgi._uvicorn import (
    Hosting,
    awaits_head,
    close_websocket,
    is_websocket,
    ready_for_close,
)
from apihour_asgi.lifespan import Application, Lifespan, Mode

__all__ = ["ASGIServer"]

# How often drain looks at its connections, in seconds.
_POLL = 0.05
# The date header has seconds: renewed as often.
_TICK = 1.0
# Silent connections are looked for every so many ticks.
_SWEEP_EVERY = 5
# Left for the close of lingering connections before the deadline, in seconds.
_MARGIN = 0.25


class ASGIServer:
    """Serve `app`, an ASGI 3 callable.

    `lifespan` is ``auto``, ``on`` or ``off``. `head_timeout`: seconds a peer may take for a
    request's head. `linger`: seconds that a silent keep-alive connection is kept when
    draining. `keepalive`: seconds that it is kept otherwise. Both default to what the host
    says, 75. `access_log`: a logger for one line per response. `options` go to
    ``uvicorn.Config``: ``root_path``, ``http``, ``ws``, ``ws_max_size``, ``headers``,
    ``proxy_headers``, ``forwarded_allow_ips``, ``limit_concurrency``...

    Raises ImportError naming the extra when uvicorn is missing, TypeError when `app` cannot
    be called or an option is unknown.
    """

    protocol = "asgi"
    alpn = ("http/1.1",)

    def __init__(
        self, app: Application, *, lifespan: Mode = "auto", head_timeout: float = 30.0,
        keepalive: float | None = None, linger: float | None = None,
        access_log: logging.Logger | None = None, **options: Any,
    ) -> None:
        if not callable(app):
            raise TypeError(f"ASGIServer({app!r}): expected an ASGI 3 application, "
                            "a callable async (scope, receive, send)")
        self.app = app
        self._mode: Mode = lifespan
        self._head_timeout = head_timeout
        self._keepalive, self._linger = keepalive, linger
        self._hosting = Hosting(app, options)
        self._hosting.access_log = access_log
        self._name = "asgi"
        self._logger = logging.getLogger("apihour_asgi")
        self._lifespan: Lifespan | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._accepted = 0

    def __repr__(self) -> str:
        return f"ASGIServer({self.app!r})"

    async def start(self, context: Any = None) -> None:
        """Run the application's startup. Raises the application's own error if that fails.

        `context` is an ``apihour.plugins.ServerContext``; without one the defaults hold.
        """
        keepalive, linger = 75.0, 75.0
        if context is not None:
            self._name, self._logger = context.name, context.logger
            if logging.getLogger("uvicorn").level == logging.NOTSET:
                # A line per WebSocket is the access log's business.
                logging.getLogger("uvicorn").setLevel(logging.WARNING)
            keepalive, linger = context.keepalive, context.linger
            self._hosting.access_log = self._hosting.access_log or context.access_log
        self._linger = linger if self._linger is None else self._linger
        self._hosting.load(keepalive if self._keepalive is None else self._keepalive)
        lifespan = Lifespan(self.app, self._mode, self._logger)
        await lifespan.startup()
        self._lifespan = lifespan
        self._tick(asyncio.get_running_loop())

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is the core's row for it."""
        assert self._lifespan is not None, "start() comes before stream()"
        self._accepted += 1
        protocol: asyncio.BaseProtocol = self._hosting.protocol(conn, self._lifespan.state)
        return protocol

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticker = loop.call_later(_TICK, self._tick, loop)
        self._hosting.tick()
        self._ticks += 1
        if self._ticks % _SWEEP_EVERY == 0:
            self._sweep(loop.time())

    def _sweep(self, now: float) -> None:
        """Close the connections whose request head has been due for too long."""
        for protocol in self._hosting.connections():
            if is_websocket(protocol):
                continue
            if not awaits_head(protocol):
                protocol.awaiting = None
            elif protocol.awaiting is None or protocol.awaiting[1] is not protocol.cycle:
                protocol.awaiting = (now, protocol.cycle)
            elif now - protocol.awaiting[0] > self._head_timeout:
                protocol.transport.close()

    async def drain(self, deadline: float) -> None:
        """Finish every exchange; return when connections and background tasks are gone.

        `deadline` is a time of ``loop.time()``: at it, return with what is left. WebSockets
        are closed with 1001 and have time to answer.
        """
        loop = asyncio.get_running_loop()
        hosting = self._hosting
        hosting.draining = True
        hosting.tick()
        assert self._linger is not None
        silent_until = min(loop.time() + self._linger, deadline - _MARGIN)
        closing: dict[Any, asyncio.Task[None]] = {}
        try:
            while hosting.connections() or hosting.state.tasks:
                for socket in hosting.websockets():
                    if socket not in closing and ready_for_close(socket):
                        closing[socket] = asyncio.ensure_future(self._close(socket))
                if loop.time() >= silent_until:
                    self._end_silence()
                remaining = deadline - loop.time()
                if remaining <= 0:
                    return
                await asyncio.sleep(min(_POLL, remaining))
        finally:
            for task in closing.values():
                task.cancel()

    def _end_silence(self) -> None:
        """Close who said nothing since draining began; who is being answered is closed after."""
        for protocol in self._hosting.connections():
            if not is_websocket(protocol) and not protocol.transport.is_closing():
                protocol.shutdown()

    async def _close(self, socket: Any) -> None:
        try:
            await close_websocket(socket)
        except Exception:
            self._logger.exception("server %r: %s: closing a WebSocket failed", self._name,
                                   socket.client)
            socket.transport.abort()

    async def stop(self) -> None:
        """Cancel the requests and abort the connections that are left, then run the shutdown.

        Raises what the application's lifespan shutdown raises.
        """
        if self._ticker is not None:
            self._ticker.cancel()
        tasks = list(self._hosting.state.tasks)
        for task in tasks:
            task.cancel()
        for protocol in self._hosting.connections():
            protocol.transport.abort()
        if tasks:
            await asyncio.wait(tasks)
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.shutdown()

    def statistics(self) -> Mapping[str, Any]:
        """``accepted``, ``connections`` and ``websockets`` open now, ``requests`` answered.

        ``responses`` are the application's, by class of status.
        """
        return {
            "accepted": self._accepted,
            "connections": len(self._hosting.state.connections),
            "websockets": len(self._hosting.websockets()),
            "requests": self._hosting.requests,
            "responses": self._hosting.statuses.record(),
            "tasks": len(self._hosting.state.tasks),
        }
