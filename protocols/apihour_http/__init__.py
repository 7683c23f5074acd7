"""HTTP for asyncio: lean endpoints and unmodified aiohttp applications on one port.

Names that need aiohttp (``CONTAINER``, ``HTML``, ``JSON``) import it when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apihour_http.client_engine import HTTPClient
from apihour_http.errors import HTTPError, RouteError
from apihour_http.request import Request
from apihour_http.response import Response
from apihour_http.routing.depends import Depends
from apihour_http.routing.routes import Routes
from apihour_http.row_set import RowSet
from apihour_http.server import HTTPServer
from apihour_http.streaming.sse import SSE, Event
from apihour_http.streaming.stream import Stream
from apihour_http.websocket.socket import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from apihour_http.aiohttp_answers import CONTAINER, HTML, JSON

__all__ = [
    "CONTAINER", "HTML", "JSON", "SSE", "Depends", "Event", "HTTPClient", "HTTPError", "HTTPServer",
    "Request", "Response", "RouteError", "Routes", "RowSet", "Stream", "WebSocket",
    "WebSocketDisconnect",
]


def __getattr__(name: str) -> Any:
    if name in ("CONTAINER", "HTML", "JSON"):
        from apihour_http import aiohttp_answers

        return getattr(aiohttp_answers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
