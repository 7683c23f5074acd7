"""What registers ASGI applications with apihour (entry point ``asgi``).

Rules:

- An ASGI 3 application is a coroutine function, or an object whose ``__call__`` is one,
  that must be given exactly three positional arguments: scope, receive, send.
- ``accepts`` imports nothing and calls nothing of the user's.
"""

from __future__ import annotations

import inspect
from typing import Any

from apihour_asgi.handshake import WebSocketSettings
from apihour_asgi.host import ASGIHost
from apihour_asgi.server import ASGIServer

__all__ = ["plugin"]


def _is_asgi3(obj: object) -> bool:
    if isinstance(obj, type) or not callable(obj):
        return False
    call = obj if inspect.isroutine(obj) else getattr(obj, "__call__", obj)  # noqa: B004
    if not inspect.iscoroutinefunction(obj) and not inspect.iscoroutinefunction(call):
        return False
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [p for p in parameters if p.default is p.empty]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(required) == 3 and all(p.kind in positional for p in required)


class _ASGI:
    """ASGI 3 applications on stream binds."""

    name = "asgi"
    describes = "ASGI 3 application: async callable (scope, receive, send), apihour_asgi.ASGIServer"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is an ASGI 3 application."""
        return kind == "stream" and (isinstance(obj, ASGIServer) or _is_asgi3(obj))

    def adapt(self, obj: Any, kind: str) -> ASGIServer:
        """Return `obj` as an ASGIServer. Raises ImportError naming the extra."""
        return obj if isinstance(obj, ASGIServer) else ASGIServer(obj)

    def mounted(self, obj: Any, path: str) -> ASGIHost:
        """What runs `obj`, an application or an ASGIServer, under `path` of a server of HTTP."""
        return self.adapt(obj, "stream").mounted(path)

    def server(self, app: Any, speaks: str, **options: Any) -> ASGIServer:
        """A server of `app`, which stands for an application of the kind `speaks` in the log."""
        return ASGIServer(app, speaks=speaks, **options)

    def websocket_host(
        self, app: Any, *, max_size: int, ping_interval: float | None
    ) -> ASGIHost:
        """What connects `app`, which only speaks WebSocket, to connections of HTTP.

        `max_size` is the longest message, in bytes; `ping_interval` the seconds between pings.
        """
        return ASGIHost(app, "off", "", WebSocketSettings(max_size, ping_interval))


plugin = _ASGI()
