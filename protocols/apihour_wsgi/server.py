"""WSGIServer: one WSGI application as a server.

Rules:

- HTTP is spoken by the plugin ``http``, by way of the plugin ``asgi``, found where the host finds
  them, in the registry of plugins; what is said there of heads, limits, deadlines, drain and
  log holds here.
- A thread is taken by a request whose body is there, or its first ``buffer`` bytes: clients that
  send slowly hold none of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from apihour_wsgi.bridge import Bridge
from apihour_wsgi.mounted import MountedWSGI

__all__ = ["WSGIServer"]


class WSGIServer:
    """Serve `app`, a callable ``(environ, start_response)``, in threads.

    `threads` calls run at once, and up to `backlog` wait for a thread; what comes beyond is
    answered 503. `buffer` is how many bytes of a body are read before a thread is taken,
    `root_path` where the application is mounted (``SCRIPT_NAME``). `options` are those of
    ``ASGIServer`` that concern connections.

    ``environ["apihour.container"]`` is the worker's container.

    Raises TypeError when `app` cannot be called or an option is unknown, ValueError for an
    option out of range, ImportError when no plugin speaks ASGI and HTTP.
    """

    protocol = "wsgi"
    gauges = ("threads", "calls", "waiting")

    def __init__(
        self, app: Any, *, threads: int = 8, backlog: int = 256, buffer: int = 1024 * 1024,
        root_path: str = "", **options: Any,
    ) -> None:
        if not callable(app):
            raise TypeError(f"WSGIServer({app!r}): expected a WSGI application, "
                            "a callable (environ, start_response)")
        for name, value, least in (("threads", threads, 1), ("backlog", backlog, 0),
                                   ("buffer", buffer, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"option {name}={value!r}: expected a whole number, "
                                 f"at least {least}")
        root = root_path.rstrip("/")
        self.app = app
        self._settings = threads, backlog, buffer, root
        self._bridge = Bridge(app, *self._settings)
        self._served = _speaker(self._bridge, root_path=root, lifespan="off", **options)
        self.stream = self._served.stream
        """The protocol of one new connection, given the host's row for it."""

    @property
    def alpn(self) -> tuple[str, ...]:
        """What is offered by ALPN: what the server of ASGI speaks."""
        offered: tuple[str, ...] = self._served.alpn
        return offered

    def __repr__(self) -> str:
        return f"WSGIServer({self.app!r})"

    def mounted(self, path: str) -> MountedWSGI:
        """What runs the application under `path` of another server, with threads of its own."""
        threads, backlog, buffer, root = self._settings
        bridge = Bridge(self.app, threads, backlog, buffer, root + path)
        served = _speaker(bridge, root_path=root, lifespan="off")
        return MountedWSGI(bridge, served.mounted(path))

    async def start(self, context: Any = None) -> None:
        """Get ready. `context` is an ``apihour.plugins.ServerContext``; without: the defaults."""
        logger = getattr(context, "logger", None) or logging.getLogger("apihour_wsgi")
        self._bridge.start(getattr(context, "container", None), logger)
        await self._served.start(context)

    async def drain(self, deadline: float) -> None:
        """Finish every call; return when connections and calls are gone.

        `deadline` is a time of ``loop.time()``: at it, return with what is left.
        """
        await self._served.drain(deadline)

    async def stop(self) -> None:
        """Abort the connections that are left. Threads at work end when their calls do."""
        with contextlib.ExitStack() as last:
            last.callback(self._bridge.stop)
            await self._served.stop()

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """Measure each route for `seconds`, as the server of HTTP does."""
        found: list[dict[str, Any]] = await self._served.measure(seconds)
        return found

    def statistics(self) -> Mapping[str, Any]:
        """Those of the server of HTTP; ``calls`` under way or waiting, ``waiting`` for a thread."""
        bridge = self._bridge
        return {**self._served.statistics(), "threads": bridge.threads, "calls": bridge.calls,
                "waiting": max(0, bridge.calls - bridge.threads)}


def _speaker(bridge: Bridge, **options: Any) -> Any:
    """The server of ASGI that serves `bridge`: of the plugin with that name."""
    found = list(entry_points(group="apihour.protocols", name="asgi"))
    if not found:
        raise ImportError("WSGI applications are served over ASGI: expected a plugin named asgi "
                          "in the group apihour.protocols")
    return found[0].load().server(bridge, "WSGI", **options)
