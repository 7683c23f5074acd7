"""HTTPServer: what one bind serves, its options, its counters and its goodbye.

Rules:

- It satisfies the host's shape of a server without importing the host, and serves as well
  from ``loop.create_server(server, ...)``: it is a protocol factory.
- Routes are frozen by ``start()``; what they do not claim goes to the application.
- Its connections have what ``start()`` decided (``service.py``), and never the server.
- ``stop()`` works after a partial start.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from apihour_http.access import AccessLog
from apihour_http.background import Background
from apihour_http.banned import BannedClients
from apihour_http.connection.connection import HTTPConnection
from apihour_http.connection.heads import LARGE, SLICE
from apihour_http.connection.states import PARSING
from apihour_http.endpoint import Endpoint
from apihour_http.forwarded.origin import Forwarding
from apihour_http.forwarded.proxies import DEFAULT
from apihour_http.head import HeadChecker
from apihour_http.heap import keep_heap
from apihour_http.hosting import Host
from apihour_http.http2.speaker import is_installed, speaker
from apihour_http.opened import OpenConnections
from apihour_http.options import Options
from apihour_http.parser import choose
from apihour_http.request import Request
from apihour_http.response import Encoded, Renderer
from apihour_http.routing.provision import Provision
from apihour_http.routing.routes import Routes
from apihour_http.routing.table import Table, examine, prepare
from apihour_http.service import Now, Service
from apihour_http.speed import compiled
from apihour_http.statistics import Statistics
from apihour_http.threads import Threads

if TYPE_CHECKING:
    from apihour_http.metering import Meter

__all__ = ["HTTPServer"]

# The host's names of its --limit-request-* options, and ours.
_LIMITS = {"line": "max_line", "fields": "max_fields", "field_size": "max_field"}
_KEEPALIVE = 75.0


class HTTPServer:
    """Serves `routes`, and what they do not claim from `app`.

    `app` is an ``aiohttp.web.Application`` or ``web.Server``, or has the shape of
    :class:`apihour_http.hosting.Host`; `mounts` are applications of ASGI and WSGI by the paths
    that they are under, the longest of which holds. Options are the fields of
    :class:`apihour_http.options.Options`. Raises ValueError for an unknown option or one
    out of range, TypeError when there is nothing to serve.
    """

    protocol = "http"
    takes_options = True  # those of the host's configuration file

    service: Service
    """What :meth:`start` decided."""

    def __init__(
        self, routes: Routes | None = None, app: Any = None, *,
        mounts: Mapping[str, Any] | None = None, **options: Any,
    ) -> None:
        if routes is None and app is None and not mounts:
            raise TypeError("HTTPServer(): expected routes, an application, or both")
        if routes is not None and not isinstance(routes, Routes):
            raise TypeError(f"HTTPServer(routes={routes!r}): expected Routes")
        _check_app(app)
        self._mounted: Mapping[str, Host] = {}
        self._mounts: Any = None
        if mounts:
            from apihour_http.mounts import make_mounts

            self._mounted, app = make_mounts(mounts, app)
        self.options = Options().updated(options)
        self.routes = routes
        self.app = app
        self.overrides: dict[Any, Any] = {}
        """For tests: functions that provide arguments in the place of others; see Client."""
        self.now = Now()
        self._app_host: Any = None
        self._log: AccessLog | None = None
        self._counters = Statistics()
        self._opened = OpenConnections(logging.getLogger("apihour_http"))
        self._background = Background(logging.getLogger("apihour_http"))
        self._websockets: list[Any] = []
        self._meter: Meter | None = None
        self._banned: BannedClients | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self.threads: Threads | None = None

    # -- lifecycle

    async def start(self, context: Any = None) -> None:
        """Freeze the routes and start the application. Raises what its start-up raises."""
        keep_heap()
        container = getattr(context, "container", None)
        logger = getattr(context, "logger", None) or logging.getLogger("apihour_http")
        self.options = options = self._told(getattr(context, "limits", None) or {},
                                            getattr(context, "options", None) or {})
        self._opened = OpenConnections(logger)
        self._background = Background(logger)
        self._log = self._start_log(context)
        threads = self.threads = Threads(options.threads, options.thread_backlog)
        checker = HeadChecker(options.max_line, options.max_field, options.max_fields)
        provision = Provision(container, self.overrides)
        endpoints = prepare(self.routes, options, threads.wrap, provision)
        challenges = getattr(context, "challenges", None)
        if challenges is not None:
            from apihour_http.acme_challenges import challenge_endpoints

            endpoints += challenge_endpoints(challenges)
            self.routes = Routes() if self.routes is None else self.routes
        table = self._route(endpoints, checker)
        self._trace(getattr(container, "tracer", None), table)
        self._websockets = [e.websockets for e in table.endpoints if e.websockets is not None]
        self.service = self._decide(context, container, logger, checker, table)
        if self._app_host is not None:
            await self._app_host.start(
                container, logger, bool(getattr(context, "debug", False)))
        bans = getattr(context, "bans", None)
        if bans is not None:
            # No head is as short as the compiled way's are then.
            self._banned = BannedClients(self.service, bans, self._plan(table, 0))
        self._tick()

    def _route(self, endpoints: list[Endpoint], checker: HeadChecker) -> Table:
        """Who answers what: routes, mounts and application."""
        self._app_host = None if self.app is None else _host_of(self.app)
        words = endpoints, checker, self.routes, self.app is not None
        if not self._mounted:
            return Table(*words)
        from apihour_http.mounts import MountHost, MountTable

        self._app_host = self._mounts = MountHost(self._mounted, self._app_host, checker)
        return MountTable(*words, mounts=self._mounts)

    def _decide(
        self, context: Any, container: Any, logger: logging.Logger, checker: HeadChecker,
        table: Table,
    ) -> Service:
        options = self.options
        binding = choose(options.parser)
        large = min(LARGE, options.max_field)
        probe = options.dumps({"ü": 1})
        keepalive, linger = _times(options, context)
        self.now.closes = self.now.draining or not keepalive
        self.now.quick = not self.now.closes and (
            isinstance(probe, bytes) or (isinstance(probe, str) and probe.isascii()))
        return Service(
            loop=asyncio.get_running_loop(), container=container, logger=logger, log=self._log,
            options=options, keepalive=keepalive, linger=linger, slow=options.slow_endpoint,
            binding=binding, checker=checker, check_head=checker.check, large=large,
            forwarding=_forwarding(options, context),
            renderer=Renderer(options.dumps), dumps=options.dumps, table=table,
            resolve=table.resolver(), app_host=self._app_host,
            counters=self._counters, opened=self._opened, background=self._background,
            now=self.now, http2=speaker(options.http2, logger),
            plan=self._plan(table, large),
        )

    def _plan(self, table: Table, large: int) -> Any:
        """What the extension needs to know, None without it."""
        if compiled is None:
            return None
        options = self.options
        return compiled.Plan(
            plain=table.plain, known=table.known,
            resolve=table.find if self.routes is not None else None, now=self.now,
            counters=self._counters, dumps=options.dumps, log=self._log, parsing=PARSING,
            request=Request, encoded=Encoded, max_head=large, max_line=options.max_line,
            max_fields=options.max_fields, max_body=min(options.max_body, SLICE - large),
            slow=options.slow_endpoint, has_app=self.app is not None, budget=options.budget,
        )

    def _trace(self, tracer: Any, table: Table) -> None:
        """Have every request make a span, where there is what makes them."""
        if tracer is not None:
            from apihour_http.request_spans import RequestSpans

            spans = RequestSpans(tracer)
            spans.wrap(table.endpoints)
            self.now.watchers += (spans,)

    def examine(self, limits: Mapping[str, int], options: Mapping[str, Any]) -> None:
        """See whether :meth:`start` would take these of its context. Raises what it would.

        So for the routes, whose endpoints are only called after it.
        """
        choose(self._told(limits, options).parser)
        examine(self.routes)

    def _told(self, limits: Mapping[str, int], options: Mapping[str, Any]) -> Options:
        """The options under what the daemon was told."""
        return self.options.updated(
            {_LIMITS[key]: value for key, value in limits.items()}).updated(options)

    def _start_log(self, context: Any) -> AccessLog | None:
        style = self.options.access_log
        logger = getattr(context, "access_log", None)
        wanted = getattr(context, "access_log_format", "")
        if logger is not None and style == "off":
            style = wanted if wanted in ("common", "json") else "combined"
        if style == "off":
            return None
        log = AccessLog(style, logger or logging.getLogger("apihour_http.access"))
        log.start(asyncio.get_running_loop())
        return log

    def _tick(self) -> None:
        service = self.service
        service.renderer.tick()
        self.now.json_head = service.renderer.json_head
        self.now.text_head = service.renderer.text_head
        self.now.ok_head = service.renderer.ok_head
        service.opened.tick()
        self._ticker = service.loop.call_later(1.0, self._tick)

    async def drain(self, deadline: float) -> None:
        """Answer with ``Connection: close`` from now on; return when no connection is left.

        Nor work behind an answer (``request.after``).

        Silent connections are granted ``linger`` seconds, less when `deadline` (a time of
        ``loop.time()``) comes first; WebSockets get 1012, aiohttp's 1001.
        """
        service = self.service
        left = deadline - service.loop.time()
        self.now.drain(monotonic(), max(0.0, min(service.linger, left - min(0.25, left / 4))))
        for lane in list(service.opened.all):
            lane.drain()
        await service.opened.wait_gone()
        for websockets in self._websockets:
            await websockets.wait_idle()
        if self._mounts is not None:
            await self._mounts.wait_idle()
        await service.background.wait()
        if service.log is not None:
            service.log.flush()

    async def stop(self) -> None:
        """Close what is left, at once, and clean the application up."""
        self.now.end()
        if self._banned is not None:
            self._banned.stop()
            self._banned = None
        await self._opened.abort()
        await self._background.stop()
        for websockets in self._websockets:
            await websockets.stop()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self.threads is not None:
            self.threads.shutdown()
        try:
            if self._app_host is not None:
                await self._app_host.stop()
        finally:
            if self._log is not None:
                self._log.stop()

    # -- connections

    @property
    def alpn(self) -> tuple[str, ...]:
        """What is offered by ALPN (RFC 7301), the most wanted first."""
        wanted = self.options.http2
        if wanted is False or not (wanted or is_installed()):
            return ("http/1.1",)
        return ("h2", "http/1.1")

    @property
    def connections(self) -> set[Any]:
        """Those that are open."""
        return self._opened.all

    def stream(self, conn: Any = None) -> HTTPConnection:
        """Return the protocol of one new connection; `conn` is the host's row for it."""
        connection = HTTPConnection(self.service, conn)
        if self._banned is not None:
            self._banned.take(connection)
        return connection

    __call__ = stream

    async def serve(
        self, host: str | None = None, port: int | None = None, *,
        sock: socket.socket | None = None, **options: Any,
    ) -> asyncio.Server:
        """Start, and listen without a host process; returns the listening server.

        `options` are those of ``loop.create_server``.
        """
        await self.start()
        loop = asyncio.get_running_loop()
        options.setdefault("backlog", 2048)
        if sock is not None:
            return await loop.create_server(self.stream, sock=sock, **options)
        return await loop.create_server(self.stream, host, port, **options)

    # -- for those who look

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """Measure each route for `seconds`; costs nothing before and after.

        Rows have ``route``, ``requests``, ``errors`` (5xx), ``running`` (begun, not answered),
        ``cpu`` (seconds of the loop's thread) and ``latency``: pairs of a bucket's number and
        its count; bucket n is around 1.05 ** n seconds.
        """
        if self._meter is None:
            from apihour_http.metering import Meter

            self._meter = Meter(self.now, self.service.table.endpoints)
        return await self._meter.measure(seconds)

    def statistics(self) -> dict[str, Any]:
        """Counters since start, JSON-able; latencies in seconds."""
        record = self._counters.record()
        lanes = self._opened.all
        record["connections"] = len(lanes)
        record["in_flight"] = sum(lane.in_flight() for lane in lanes)
        record["websockets"] = sum(lane.is_websocket() for lane in lanes)
        record["tasks"] = len(self._background.tasks)
        if self._mounts is not None:
            record["mounted"] = dict(self._mounts.requests)
        record["draining"] = len(lanes) if self.now.draining else 0
        return record


def _times(options: Options, context: Any) -> tuple[float, float]:
    """``keepalive`` and ``linger``: the options, else the host's, else the defaults; seconds."""
    keepalive = options.keepalive
    if keepalive is None:
        keepalive = getattr(context, "keepalive", _KEEPALIVE)
    linger = options.linger
    if linger is None:
        linger = getattr(context, "linger", keepalive)
    return keepalive, linger


def _check_app(app: Any) -> None:
    """Raise TypeError for what is no application that is served here."""
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(app).__mro__]
    is_aiohttp = not isinstance(app, type) and not {
        "aiohttp.web_app.Application", "aiohttp.web_server.Server"}.isdisjoint(kinds)
    if app is None or is_aiohttp or (isinstance(app, Host) and not isinstance(app, type)):
        return
    hint = ("; one of ASGI is a server by itself, without HTTPServer, or mounts={'/': it}"
            if callable(app) else "")
    raise TypeError(f"HTTPServer(app={ascii(app)[:100]}): expected an aiohttp.web.Application "
                    f"or web.Server{hint}")


def _forwarding(options: Options, context: Any) -> Forwarding:
    """Who is believed about clients: the options', else the host's, else the default."""
    proxies = options.forwarded_allow_ips
    if proxies is None:
        proxies = getattr(context, "forwarded_allow_ips", DEFAULT)
    return Forwarding(proxies, options.forwarded_headers)


def _host_of(app: Any) -> Any:
    """What runs `app`: itself, when it has the shape of a host."""
    if isinstance(app, Host):
        return app
    from apihour_http.aiohttp.host import AppHost

    return AppHost(app)
