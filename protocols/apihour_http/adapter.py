"""What the host's registry finds under the name ``http``.

Rule: asking imports nothing; an object of a library that was never imported is not of it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apihour_http.server import HTTPServer

__all__ = ["plugin"]


class HTTPPlugin:
    """The plugin ``http``."""

    name = "http"
    describes = (
        "apihour_http.HTTPServer, apihour_http.Routes, aiohttp.web.Application, "
        "aiohttp.web.Server"
    )

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is one of those described, on a stream bind."""
        return kind == "stream" and (self._is_own(obj) or self._is_aiohttp(obj))

    def adapt(self, obj: Any, kind: str) -> HTTPServer:
        """Return the server for `obj`. Raises ImportError naming what must be installed."""
        from apihour_http.routing.routes import Routes
        from apihour_http.server import HTTPServer

        if isinstance(obj, HTTPServer):
            return obj
        if isinstance(obj, Routes):
            return HTTPServer(obj)
        return HTTPServer(app=obj)

    @staticmethod
    def _is_own(obj: object) -> bool:
        return any(
            isinstance(obj, kind)
            for module, name in (("server", "HTTPServer"), ("routing.routes", "Routes"))
            if (kind := getattr(sys.modules.get(f"apihour_http.{module}"), name, None))
        )

    @staticmethod
    def _is_aiohttp(obj: object) -> bool:
        web = sys.modules.get("aiohttp.web")
        return web is not None and isinstance(obj, (web.Application, web.Server))


plugin = HTTPPlugin()
