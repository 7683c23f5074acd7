"""ASGIServer: one ASGI 3 application as a server.

Rules:

- HTTP is spoken by the plugin of that name, found where the host finds it, in the registry of
  plugins; what is said there of heads, limits, deadlines, drain and log holds here.
- The application is its third lane, beside endpoints and aiohttp's applications.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from apihour_asgi.handshake import WebSocketSettings
from apihour_asgi.host import ASGIHost
from apihour_asgi.lifespan import Application, Mode

__all__ = ["ASGIServer"]

# Options of the server of HTTP that mean something for an ASGI application.
_OPTIONS = frozenset({
    "access_log", "body_rate", "body_timeout", "budget", "forwarded_allow_ips", "forwarded_headers",
    "header_timeout", "http2", "keepalive", "linger", "max_field", "max_fields", "max_head",
    "max_line", "parser", "write_timeout",
})


class ASGIServer:
    """Serve `app`, an ASGI 3 callable.

    `lifespan` is ``auto``, ``on`` or ``off``. `root_path` is where the application is mounted.
    `ws_max_size` is the longest WebSocket message, in bytes; `ws_ping_interval` the seconds
    between pings, None for none; `ws_deflate` whether messages may be compressed (RFC 7692);
    `speaks` is what the log calls the application's kind.
    `options` are those of ``HTTPServer`` that concern connections: ``keepalive``, ``linger``,
    ``header_timeout``, ``body_timeout``, ``body_rate``, ``write_timeout``, ``budget``,
    ``http2``, ``max_line``, ``max_field``, ``max_fields``, ``max_head``, ``access_log``,
    ``parser``, ``forwarded_allow_ips``, ``forwarded_headers``.

    Raises TypeError when `app` cannot be called or an option is unknown, ValueError for an
    option out of range, ImportError when no plugin speaks HTTP.
    """

    protocol = "asgi"

    def __init__(
        self, app: Application, *, lifespan: Mode = "auto", root_path: str = "",
        ws_max_size: int = 16 * 1024 * 1024, ws_ping_interval: float | None = 20.0,
        ws_deflate: bool = True, speaks: str = "ASGI", **options: Any,
    ) -> None:
        if not callable(app):
            raise TypeError(f"ASGIServer({app!r}): expected an ASGI 3 application, "
                            "a callable async (scope, receive, send)")
        if lifespan not in ("auto", "on", "off"):
            raise ValueError(f"option lifespan={lifespan!r}: expected auto, on or off")
        for name in options:
            if name not in _OPTIONS:
                raise TypeError(f"ASGIServer(): option {name!r}: expected one of "
                                f"{', '.join(sorted(_OPTIONS))}")
        self.app = app
        self._lifespan, self._root, self._speaks = lifespan, root_path.rstrip("/"), speaks
        websockets = None
        if importlib.util.find_spec("websockets") is not None:
            websockets = WebSocketSettings(ws_max_size, ws_ping_interval, ws_deflate)
        self._engine = websockets
        self._host = self.mounted("")
        self._http = _speaker(self._host, options)
        self.stream = self._http.stream
        """The protocol of one new connection, given the host's row for it."""

    @property
    def alpn(self) -> tuple[str, ...]:
        """What is offered by ALPN: what the server of HTTP speaks."""
        offered: tuple[str, ...] = self._http.alpn
        return offered

    def __repr__(self) -> str:
        return f"ASGIServer({self.app!r})"

    def mounted(self, path: str) -> ASGIHost:
        """What runs the application under `path` of another server, by these options of its own."""
        return ASGIHost(self.app, self._lifespan, self._root, self._engine, self._speaks, path)

    async def start(self, context: Any = None) -> None:
        """Run the application's startup. Raises the application's own error if that fails.

        `context` is an ``apihour.plugins.ServerContext``; without one the defaults hold.
        """
        await self._http.start(context)

    async def drain(self, deadline: float) -> None:
        """Finish every exchange; return when connections and background tasks are gone.

        `deadline` is a time of ``loop.time()``: at it, return with what is left. WebSockets
        are closed with 1012 and have time to answer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._http.drain(deadline)
                await self._host.wait_idle()

    async def stop(self) -> None:
        """Cancel the requests and abort the connections that are left, then run the shutdown.

        Raises what the application's lifespan shutdown raises.
        """
        await self._http.stop()

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """Measure each route for `seconds`, as the server of HTTP does."""
        found: list[dict[str, Any]] = await self._http.measure(seconds)
        return found

    def statistics(self) -> Mapping[str, Any]:
        """Those of the server of HTTP, and ``tasks``: calls of the application under way."""
        return {**self._http.statistics(), "tasks": len(self._host.tasks)}


def _speaker(host: ASGIHost, options: dict[str, Any]) -> Any:
    """The server of HTTP that connects `host`: of the plugin with that name."""
    found = list(entry_points(group="apihour.protocols", name="http"))
    if not found:
        raise ImportError("ASGI applications are served over HTTP: expected a plugin named http "
                          "in the group apihour.protocols")
    server = found[0].load().adapt(host, "stream")
    server.options = server.options.updated(options)
    return server
