"""What a server's start decided, as its connections have it: they never see the server.

Rules:

- A :class:`Service` is built once, by ``HTTPServer.start()``, and never changes.
- What changes while it serves is in its :class:`Now`, which the server alone writes (and a
  meter, while somebody measures).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apihour_http.access import AccessLog
from apihour_http.background import Background
from apihour_http.errors import HTTPError
from apihour_http.forwarded.origin import Forwarding
from apihour_http.head import HeadChecker
from apihour_http.opened import OpenConnections
from apihour_http.options import Options
from apihour_http.parser import Binding
from apihour_http.response import Renderer, is_aiohttp
from apihour_http.routing.routes import Match
from apihour_http.routing.table import Table
from apihour_http.statistics import Statistics

__all__ = ["Now", "Service"]


class Now:
    """What changes while a server serves."""

    __slots__ = ("closes", "drain_linger", "drain_since", "draining", "json_head", "meter",
                 "ok_head", "quick", "text_head", "watchers")

    def __init__(self, quick: bool = False) -> None:
        self.closes = False  # whether an answer with nothing behind it is the last
        # Whether a dict, a list of them, or a text may go the short way: the encoder makes bytes,
        # or a text with as many characters as bytes, whatever the data, and no answer needs to
        # say that it is the last.
        self.quick = quick
        # Up to the length and up to the Date of this second, which are in them.
        self.json_head = self.text_head = self.ok_head = ""
        self.draining = False
        self.drain_since = 0.0
        self.drain_linger = 0.0
        self.meter: Any = None
        self.watchers: tuple[Any, ...] = ()  # who sees the application's handlers begin and end

    def end(self) -> None:
        """Nothing stays open from now on."""
        self.draining = self.closes = True
        self.quick = False

    def drain(self, since: float, linger: float) -> None:
        """Every answer says that it is the last from now on; `linger` is seconds of silence."""
        self.end()
        self.drain_since = since
        self.drain_linger = linger


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """What the connections of one server have in common; times in seconds, sizes in bytes."""

    loop: asyncio.AbstractEventLoop
    container: Any
    logger: logging.Logger
    log: AccessLog | None
    options: Options
    keepalive: float
    linger: float
    slow: float
    """An inline endpoint that blocks the loop longer is named."""
    binding: Binding
    checker: HeadChecker
    check_head: Callable[[list[tuple[bytes, bytes]], bool], int]
    large: int
    """Longer reads are looked at: they may exceed a limit."""
    forwarding: Forwarding
    renderer: Renderer
    dumps: Callable[[Any], Any]
    table: Table
    resolve: Callable[[bytes, bytes], Match]
    app_host: Any
    """What runs the application (:class:`apihour_http.hosting.Host`), or None."""
    counters: Statistics
    opened: OpenConnections
    background: Background
    now: Now
    http2: Callable[[Any, Any], Any] | None = None
    """What makes the protocol of a connection that begins as HTTP/2 does; None: nobody."""
    plan: Any = None
    """What the extension needs of it, None without the extension."""

    def failed(self, request: Any, error: Exception) -> Any:
        """What to answer when an endpoint raised `error`; logs what is no answer.

        That is an HTTPError, or one of ``aiohttp.web`` (``HTTPFound``), or what says by an
        attribute ``http_status`` how it is answered: an engine that is down has said so itself.
        """
        if isinstance(error, HTTPError) or is_aiohttp(error):
            return error
        status = getattr(error, "http_status", None)
        if type(status) is int and 400 <= status <= 599:
            return HTTPError(status, headers={"Retry-After": "1"} if status == 503 else None)
        named = f"{request.endpoint.name} failed on {request.method}"
        # The host's handler knows the worker, the server and the peer, and counts repeats.
        self.loop.call_exception_handler({
            "message": f"{named} {request.path_qs!a}", "exception": error,
            "transport": request.lane.transport, "request": named,
        })
        return HTTPError(500)

    def warn_slow(self, request: Any, seconds: float) -> None:
        """Name an inline endpoint that has blocked the loop."""
        self.logger.warning(
            "%s blocked the loop for %.0f ms: declare it async, or with blocking=True",
            request.endpoint.name, seconds * 1000,
        )
