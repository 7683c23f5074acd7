"""HTTPServer: what one bind serves, its options, its counters and its goodbye.

Rules:

- It satisfies the host's shape of a server without importing the host, and serves as well
  from ``loop.create_server(server, ...)``: it is a protocol factory.
- Routes are frozen by ``start()``; what they do not claim goes to the application.
- ``stop()`` works after a partial start.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any

from apihour_http.access import AccessLog
from apihour_http.connection.answers import Lane
from apihour_http.connection.bytes import Wire
from apihour_http.connection.heads import LARGE, REPEATABLE
from apihour_http.errors import BadRequest, HTTPError
from apihour_http.head import HeadChecker
from apihour_http.hosting import Host
from apihour_http.options import Options
from apihour_http.parser import choose
from apihour_http.response import Renderer, Response
from apihour_http.routing.outcome import with_status
from apihour_http.routing.routes import Endpoint, Match, Methods, Router, Routes, allowed
from apihour_http.routing.validation import Plan, plan
from apihour_http.statistics import Statistics

if TYPE_CHECKING:
    from apihour_http.metering import Meter
    from apihour_http.request import Request

__all__ = ["HTTPServer"]

# The host's names of its --limit-request-* options, and ours.
_LIMITS = {"line": "max_line", "fields": "max_fields", "field_size": "max_field"}
_KEEPALIVE = 75.0
_NO_ROUTE: Match = ({}, {})


class HTTPServer:
    """Serves `routes`, and what they do not claim from `app`.

    `app` is an ``aiohttp.web.Application`` or ``web.Server``, or has the shape of
    :class:`apihour_http.hosting.Host`. Options are the fields of
    :class:`apihour_http.options.Options`. Raises ValueError for an unknown option or one
    out of range, TypeError when there is nothing to serve.
    """

    protocol = "http"
    alpn = ("http/1.1",)
    takes_options = True  # those of the host's configuration file

    def __init__(
        self, routes: Routes | None = None, app: Any = None, **options: Any
    ) -> None:
        if routes is None and app is None:
            raise TypeError("HTTPServer(): expected routes, an application, or both")
        if routes is not None and not isinstance(routes, Routes):
            raise TypeError(f"HTTPServer(routes={routes!r}): expected Routes")
        self.options = Options().updated(options)
        self.routes = routes
        self.app = app
        self.app_host: Any = None
        self.container: Any = None
        self.lanes: set[Wire] = set()
        self.newcomers: set[Wire] = set()
        self.log: AccessLog | None = None
        self.logger = logging.getLogger("apihour_http")
        self.counters = Statistics()
        self.meter: Meter | None = None
        self.draining = False
        self.closes = False  # whether an answer with nothing behind it is the last
        self.drain_since = 0.0
        self.drain_linger = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._goodbyes: set[asyncio.Task[Any]] = set()
        self._waiting_threads = 0

    # -- lifecycle

    async def start(self, context: Any = None) -> None:
        """Freeze the routes and start the application. Raises what its start-up raises."""
        self.loop = asyncio.get_running_loop()
        self.container = getattr(context, "container", None)
        self.logger = getattr(context, "logger", None) or self.logger
        self.options = options = self._told(getattr(context, "limits", None) or {},
                                            getattr(context, "options", None) or {})
        self._set_times(context)
        self.binding = choose(options.parser)
        self.checker = HeadChecker(options.max_line, options.max_field, options.max_fields)
        self.check_head = self.checker.check
        self.large = min(LARGE, options.max_field)
        # Bytes of the longest read that a connection remembers, to know it again.
        self.repeatable = min(REPEATABLE, self.large) if self.binding.tells_begin else 0
        self.renderer = Renderer(options.dumps)
        self.dumps: Any = options.dumps
        probe = options.dumps({"ü": 1})
        # Whether a dict may go the short way: the encoder's text has as many characters as
        # bytes, whatever the data, and no answer needs to say that it is the last.
        self.closes = self.draining or not self.keepalive
        self.quick = isinstance(probe, str) and probe.isascii() and not self.closes
        self.slow = options.slow_endpoint
        self._start_log(context)
        self._freeze()
        if self.app is not None:
            self.app_host = _host_of(self.app)
            await self.app_host.start(
                self.container, self.logger, bool(getattr(context, "debug", False)))
        self._tick()

    def examine(self, limits: Mapping[str, int], options: Mapping[str, Any]) -> None:
        """See whether :meth:`start` would take these of its context. Raises what it would."""
        choose(self._told(limits, options).parser)

    def _told(self, limits: Mapping[str, int], options: Mapping[str, Any]) -> Options:
        """The options under what the daemon was told."""
        return self.options.updated(
            {_LIMITS[key]: value for key, value in limits.items()}).updated(options)

    def _set_times(self, context: Any) -> None:
        options = self.options
        keepalive = options.keepalive
        if keepalive is None:
            keepalive = getattr(context, "keepalive", _KEEPALIVE)
        linger = options.linger
        if linger is None:
            linger = getattr(context, "linger", keepalive)
        self.keepalive: float = keepalive
        self.linger: float = linger

    def _start_log(self, context: Any) -> None:
        style = self.options.access_log
        logger = getattr(context, "access_log", None)
        wanted = getattr(context, "access_log_format", "")
        if logger is not None and style == "off":
            style = wanted if wanted in ("common", "json") else "combined"
        if style == "off":
            return
        self.log = AccessLog(style, logger or logging.getLogger("apihour_http.access"))
        self.log.start(self.loop)

    def _freeze(self) -> None:
        """Decide how each endpoint is called, and build the tree."""
        endpoints = list(self.routes) if self.routes is not None else []
        plans: dict[Endpoint, Plan | None] = {}
        for endpoint in endpoints:
            found = plans[endpoint] = plan(endpoint)
            call = endpoint.function if found is None else found.wrap(endpoint.function)
            endpoint.call = self._in_thread(call) if endpoint.blocking else call
            status = int(endpoint.options.get("status", 200))
            if status != 200:
                endpoint.call = with_status(endpoint.call, status, endpoint.inline)
        options = self.options
        wanted = options.openapi
        if wanted or (wanted is None and any(plans.values())):
            from apihour_http.routing.openapi import add_to

            endpoints += add_to(endpoints, plans, options.title, options.version)
        self._router = Router(endpoints)
        self._meter: Meter | None = None
        self._endpoints = endpoints
        self.plain = self._router.plain
        self.known = self._router.known
        # What is at "*" (RFC 9110 9.3.7); OPTIONS of one path is not that of the server.
        self._everywhere: Methods = {} if self.app is not None else {
            e.method.encode(): e for e in endpoints if e.method != "OPTIONS"}
        self._missing = Endpoint("*", "*", _not_found, False, {})

    def _tick(self) -> None:
        self.renderer.tick()
        self.json_head = self.renderer.json_head
        for lane in self.newcomers:
            lane.set_timer()
        self.newcomers.clear()
        self._ticker = self.loop.call_later(1.0, self._tick)

    async def drain(self, deadline: float) -> None:
        """Answer with ``Connection: close`` from now on; return when no connection is left.

        Silent connections are granted ``linger`` seconds, less when `deadline` (a time of
        ``loop.time()``) comes first; WebSockets get 1001.
        """
        self.draining = self.closes = True
        self.quick = False
        self.drain_since = monotonic()
        left = deadline - self.loop.time()
        self.drain_linger = max(0.0, min(self.linger, left - min(0.25, left / 4)))
        for lane in list(self.lanes):
            lane.drain()
        if self.lanes:
            self._gone = self.loop.create_future()
            try:
                await self._gone
            finally:
                self._gone = None
        if self.log is not None:
            self.log.flush()

    async def stop(self) -> None:
        """Close what is left, at once, and clean the application up."""
        self.draining = self.closes = True
        self.quick = False
        for lane in list(self.lanes):
            lane.abort()
        if self.lanes:
            # connection_lost comes in the next turn of the loop.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for task in self._goodbyes:
            task.cancel()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        try:
            if self.app_host is not None:
                await self.app_host.stop()
        finally:
            if self.log is not None:
                self.log.stop()

    # -- connections

    def stream(self, conn: Any = None) -> Lane:
        """Return the protocol of one new connection; `conn` is the host's row for it."""
        return Lane(self, conn)

    __call__ = stream

    async def serve(
        self, host: str | None = None, port: int | None = None, *,
        sock: socket.socket | None = None, **options: Any,
    ) -> asyncio.Server:
        """Start, and listen without a host process; returns the listening server.

        `options` are those of ``loop.create_server``.
        """
        await self.start()
        options.setdefault("backlog", 2048)
        if sock is not None:
            return await self.loop.create_server(self.stream, sock=sock, **options)
        return await self.loop.create_server(self.stream, host, port, **options)

    def lost(self, lane: Wire) -> None:
        """A connection is gone."""
        self.lanes.discard(lane)
        self.newcomers.discard(lane)
        if self._gone is not None and not self.lanes and not self._gone.done():
            self._gone.set_result(None)

    def keep_goodbye(self, task: asyncio.Task[Any]) -> None:
        """Hold a task that closes a WebSocket until it is done."""
        self._goodbyes.add(task)
        task.add_done_callback(self._said_goodbye)

    def _said_goodbye(self, task: asyncio.Task[Any]) -> None:
        self._goodbyes.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.logger.warning("closing a WebSocket failed", exc_info=task.exception())

    # -- answers

    def resolve(self, method: bytes, target: bytes) -> Match:
        """What is declared at `target`, judged first; nothing when no route claims it."""
        if len(target) > self.options.max_line:
            raise BadRequest("the request target is too long", 414)
        target = self.checker.check_target(method, target)
        if self.routes is None:
            return _NO_ROUTE
        return (self._everywhere, {}) if target == b"*" else self._router.resolve(target)

    def stand_in(self, method: bytes, methods: Methods) -> Endpoint | None:
        """The endpoint for what no route claims; None when it is the application's."""
        if method == b"HEAD" and b"GET" in methods:
            return methods[b"GET"]
        if self.app_host is not None:
            return None
        if not methods:
            return self._missing
        allow = allowed(methods)
        if method == b"OPTIONS":
            return Endpoint("*", "*", lambda request: Response(204, {"Allow": allow}), False, {})
        return Endpoint("*", "*", _not_allowed(allow), False, {})

    def failed(self, request: Request, error: Exception) -> HTTPError:
        """What to answer when an endpoint raised `error`; logs what is not an HTTPError."""
        if isinstance(error, HTTPError):
            return error
        self.logger.error(
            "%s failed on %s %s", request.head.endpoint.name, request.method,
            ascii(request.path_qs), exc_info=error,
        )
        return HTTPError(500)

    def warn_slow(self, request: Request, seconds: float) -> None:
        """Name an inline endpoint that has blocked the loop."""
        self.logger.warning(
            "%s blocked the loop for %.0f ms: declare it async, or with blocking=True",
            request.head.endpoint.name, seconds * 1000,
        )

    def _in_thread(self, function: Any) -> Any:
        """Wrap a blocking endpoint: it runs in the pool, with the context of its task."""

        async def call(request: Request) -> Any:
            if self._waiting_threads >= self.options.threads + self.options.thread_backlog:
                raise HTTPError(503, "too many blocking requests", headers={"Retry-After": "1"})
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.options.threads, "apihour_http")
            self._waiting_threads += 1
            try:
                context = contextvars.copy_context()
                return await self.loop.run_in_executor(
                    self._pool, context.run, function, request)
            finally:
                self._waiting_threads -= 1

        return call

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """Measure each route for `seconds`; costs nothing before and after.

        Rows have ``route``, ``requests``, ``errors`` (5xx), ``running`` (begun, not answered),
        ``cpu`` (seconds of the loop's thread) and ``latency``: pairs of a bucket's number and
        its count; bucket n is around 1.05 ** n seconds.
        """
        if self._meter is None:
            from apihour_http.metering import Meter

            self._meter = Meter(self, self._endpoints)
        return await self._meter.measure(seconds)

    def statistics(self) -> dict[str, Any]:
        """Counters since start, JSON-able; latencies in seconds."""
        record = self.counters.record()
        record["connections"] = len(self.lanes)
        record["in_flight"] = sum(lane.in_flight() for lane in self.lanes)
        record["websockets"] = sum(lane.is_websocket() for lane in self.lanes)
        record["draining"] = len(self.lanes) if self.draining else 0
        return record


def _host_of(app: Any) -> Any:
    """What runs `app`: itself, when it has the shape of a host."""
    if isinstance(app, Host):
        return app
    from apihour_http.aiohttp.lane import AppHost

    return AppHost(app)


def _not_found(request: Request) -> Any:
    raise HTTPError(404)


def _not_allowed(allow: str) -> Any:
    def answer(request: Request) -> Any:
        raise HTTPError(405, headers={"Allow": allow})

    return answer
