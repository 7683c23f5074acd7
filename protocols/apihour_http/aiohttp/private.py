"""Every private name of aiohttp that the full lane needs, each with the reason why.

- ``RequestHandler._handle_request``: runs a handler and sends its answer, with aiohttp's
  own error pages. Its caller ``start()`` waits for messages by futures; the lane already
  knows when a request may run, so it calls this directly (two loop turns less).
- ``RequestHandler._request_factory``, ``_request_handler``, ``_task_handler``,
  ``_close``, ``_force_close``: what ``start()`` reads and sets around that call.
- ``RequestHandler._payload_parser``: tells whether an upgrade was accepted.
- ``BaseProtocol._reading_paused``: read by aiohttp's stream readers before they pause.
- ``BaseRequest._prepare_hook``: the only place that meets a WebSocketResponse before it
  starts; a draining lane needs that object to close it with 1001.
- ``WebSocketResponse._writer``, ``_reader``, ``_closing``, ``_set_closed``: to say goodbye
  and still wait for the client's own close frame.
- ``BaseRequest._task``: cleared after the answer, to break a reference cycle.
- ``web.Server._kwargs``: what the application's owner configured for its connections.
- ``Application._handler_args``: the same, as given to an application.
- ``Application._subapps``: sub-applications find the container too.
- ``aiohttp.http``, ``aiohttp.http_parser``: RawRequestMessage, HttpRequestParser and
  DeflateBuffer are importable, but not documented.

``tests/apihour_http/test_aiohttp_private.py`` fails when a release moves one of them.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import EofStream, WebSocketError, WSMsgType, web
from aiohttp.http import StreamWriter
from aiohttp.http_parser import DeflateBuffer, HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web_protocol import PayloadAccessError, RequestHandler, RequestPayloadError

from apihour_http.hosting import Exchange

if TYPE_CHECKING:
    from apihour_http.errors import HTTPError
    from apihour_http.hosting import HostingLane

__all__ = [
    "EMPTY_PAYLOAD", "DeflateBuffer", "Hosted", "HttpRequestParser", "RawRequestMessage",
    "RequestPayloadError", "StreamReader", "check_options", "handler_options",
    "subapplications",
]

# Options of RequestHandler that the lane takes over: its timeouts and its log.
_TAKEN_OVER = frozenset({"access_log", "access_log_class", "access_log_format",
                         "keepalive_timeout", "lingering_time"})
_NO_ACCESS = PayloadAccessError()
_CLOSE_TIMEOUT = 10.0  # seconds for the answer to a close frame, as WebSocketResponse has it


# Options that aiohttp's own parser and connection would take: what to say to ours instead.
_ELSEWHERE = {
    "keepalive_timeout": "keepalive", "max_line_size": "max_line",
    "max_field_size": "max_field", "max_headers": "max_fields",
    "access_log": "access_log", "access_log_class": "access_log",
    "access_log_format": "access_log",
}
_HONOURED = (
    "auto_decompress", "debug", "handler_cancellation", "logger", "loop", "read_bufsize",
    "request_factory", "tcp_keepalive", "timeout_ceil_threshold",
)


def check_options(app: web.Application | web.Server) -> None:
    """Raise ValueError naming an option of the connection that would have no effect here.

    Those are ``Application(handler_args=…)`` or the keywords of ``web.Server``.
    """
    if isinstance(app, web.Server):
        where, given = "web.Server", app._kwargs
    else:
        where, given = "handler_args", dict(app._handler_args or {})
    for name, value in given.items():
        if name in _HONOURED or value is None:
            continue
        if name in _ELSEWHERE:
            raise ValueError(f"{where}: {name}={value!r}: is an option of the server, "
                             f"expected HTTPServer(app=…, {_ELSEWHERE[name]}=…)")
        raise ValueError(f"{where}: {name}={value!r}: expected one of {', '.join(_HONOURED)}")


def handler_options(manager: web.Server) -> dict[str, Any]:
    """The owner's options for connections, less those the lane decides."""
    return {k: v for k, v in manager._kwargs.items() if k not in _TAKEN_OVER}


def subapplications(app: web.Application) -> list[web.Application]:
    """`app` and every application below it."""
    found = [app]
    for child in app._subapps:
        found += subapplications(child)
    return found


def route_of(request: Any) -> str:
    """What a request of aiohttp was routed to; nothing where no route took it."""
    route = getattr(getattr(request, "match_info", None), "route", None)
    resource = getattr(route, "resource", None)
    if route is None or resource is None:
        return ""
    return f"{route.method} {resource.canonical}"


def _told(request: Any, origin: Any) -> Any:
    """The request as its client sent it to the first proxy (aiohttp's deploying behind one)."""
    if origin is None:
        return request
    known = {"remote": origin.remote, "scheme": origin.scheme, "host": origin.host}
    return request.clone(**{name: value for name, value in known.items() if value})


class Served(Exchange, Protocol):
    """An exchange as :class:`Hosted` runs it."""

    message: Any
    payload: Any
    forwarded: bool
    failure: HTTPError | None

    def named(self) -> tuple[str, str]:
        """Method and target."""

    def pump(self) -> None:
        """Move what is held into the payload."""

    def is_too_long_to_discard(self, continued: bool) -> bool:
        """Whether to close after an answer that comes now."""


class Hosted(RequestHandler):
    """aiohttp's connection object, fed with parsed messages by a lane.

    Handlers see it as ``request.protocol``; its transport is the real one.
    """

    __slots__ = ("answering", "lane", "parting", "running", "websocket")

    def __init__(self, manager: web.Server, lane: HostingLane, options: dict[str, Any]) -> None:
        super().__init__(
            manager, loop=lane.loop, access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=lane.keepalive(), **options,
        )
        self.lane = lane
        self.running: Served | None = None
        self.websocket: web.WebSocketResponse | None = None
        self.answering: StreamWriter | None = None
        self.parting: asyncio.Task[bool] | None = None
        transport = lane.transport
        assert transport is not None
        self.transport = transport
        sock = getattr(lane.conn, "sock", None)
        if not self._tcp_keepalive:
            pass
        elif sock is None:
            tcp_keepalive(transport)
        else:
            # uvloop would make a socket object, and ask for two addresses, to give it away.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        manager.connection_made(self, transport)
        if lane.write_paused:
            self.pause_writing()

    def must_know_of_end(self) -> bool:
        """Whether a client that sends no more is gone for the handler that runs.

        So it is while the handler waits for a body, and where it is cancelled then.
        """
        manager = self._manager
        return (manager is not None and manager.handler_cancellation) or not getattr(
            self.lane.current, "is_complete", True)

    async def serve(self, exchange: Served) -> None:
        """Run the handler for one message and send its answer, as the task of that request."""
        manager, factory, handler = self._manager, self._request_factory, self._request_handler
        if manager is None or factory is None or handler is None:
            return
        manager.requests_count += 1
        # With the loop given, CPython 3.11 saves a getpid().
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task_handler = task
        self.running = exchange
        self.answering = StreamWriter(self, self._loop)
        if self.lane.closes() or not exchange.is_complete:
            self.announce_close()
        request: Any = None
        response: web.StreamResponse | None = None
        reset = True
        try:
            request = factory(exchange.message, exchange.payload, self, self.answering, task)
            if exchange.forwarded:
                request = _told(request, self.lane.origin(exchange.message.raw_headers))
            if exchange.websocket:
                self._watch(request)
            response, reset = await self._handle_request(request, exchange.arrived, handler)
            if self.parting is not None and self.websocket is not None:
                await self._wait_closed(self.websocket)
            if exchange.has_body:
                exchange.payload.set_exception(_NO_ACCESS)
        except ConnectionError as error:
            self.log_debug("Client gone before its answer", exc_info=error)
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:
            self.log_exception("Unhandled exception", exc_info=error)
        finally:
            if request is not None:
                request._task = None
            self._finish(exchange, response, reset)

    def _finish(
        self, exchange: Served, response: web.StreamResponse | None, reset: bool
    ) -> None:
        """Tell the lane what became of the exchange."""
        vars(self.answering).pop("write_headers", None)  # it holds the writer, and the lane
        self.running = self.answering = None
        if response is None or reset or self._force_close:
            self.force_close()
            exchange.keep = False
            self.lane.hosted_done(exchange, 500, 0)
            return
        if not response.keep_alive or self._close:
            exchange.keep = False
        self.lane.hosted_done(exchange, response.status, response.body_length)

    def announce_close(self) -> None:
        """Let the answer under way say whether it is the last, in the last moment.

        ``on_response_prepare`` would come after the Connection header was decided.
        """
        writer, exchange, lane = self.answering, self.running, self.lane
        if writer is None or exchange is None:
            return
        original = writer.write_headers

        def write_headers(status_line: str, headers: Any) -> Any:
            is_last = lane.closes() and lane.is_last()
            # Nothing but a 100 Continue is written before the head.
            if not is_last and exchange.is_too_long_to_discard(writer.buffer_size > 0):
                is_last = True
            if is_last and " 101 " not in status_line:
                headers["Connection"] = "close"
                exchange.keep = False
            return original(status_line, headers)

        writer.write_headers = write_headers  # type: ignore[method-assign]

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer for a handler that raised; a client's fault is no traceback in our log."""
        running = self.running
        if isinstance(exc, RequestPayloadError | ConnectionError) and running is not None:
            failure = running.failure
            self.log_debug("Request not read to its end: %s", exc)
            if failure is None or request.writer.output_size > 0:
                raise ConnectionError("client gone, or its body broken after the answer began")
            answer = web.json_response(
                failure.document(), status=failure.status,
                content_type="application/problem+json")
            answer.force_close()
            return answer
        return super().handle_error(request, status, exc, message)

    def _watch(self, request: Any) -> None:
        """Remember the WebSocketResponse that `request` prepares."""
        original = request._prepare_hook

        async def remember(response: web.StreamResponse) -> None:
            if isinstance(response, web.WebSocketResponse):
                self.websocket = response
            await original(response)

        # Past __setattr__, which warns of custom attributes in development mode.
        request.__dict__["_prepare_hook"] = remember

    def goodbye(self) -> asyncio.Task[bool] | None:
        """Send the WebSocket's close frame, 1001, going away (RFC 6455 7.4.1), in a task.

        Not by ``WebSocketResponse.close()``: called beside a handler that receives, it
        closes the transport without waiting for the client's own close frame.
        """
        if self.websocket is None or self.websocket.closed:
            return None
        self.parting = self._loop.create_task(self._part(self.websocket))
        return self.parting

    async def _part(self, websocket: web.WebSocketResponse) -> bool:
        writer = websocket._writer
        assert writer is not None
        await writer.close(1001, b"server is going away")
        # The handler's next receive() ends it; one under way gets the client's close frame.
        websocket._set_closed()
        await asyncio.sleep(_CLOSE_TIMEOUT)
        self.lane.close()  # does nothing when the client has answered long ago
        return True

    @staticmethod
    async def _wait_closed(websocket: web.WebSocketResponse) -> None:
        """Read on until the client's close frame, which the handler may have had already."""
        reader = websocket._reader
        assert reader is not None
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while not websocket._closing:
                    if (await reader.read()).type is WSMsgType.CLOSE:
                        return
        except (TimeoutError, ConnectionError, WebSocketError, EofStream):
            return  # it said nothing, or left: closing is all that remains

    def route(self) -> str:
        """What the request that is being answered was routed to: ``GET /users/{id}``.

        Read off the handler's task, so that nothing has to be kept for whoever looks.
        """
        frame = getattr(getattr(self._task_handler, "get_coro", lambda: None)(), "cr_frame", None)
        request = frame.f_locals.get("request") if frame is not None else None
        return route_of(request)

    def set_parser(self, parser: Any, *args: Any, **kwargs: Any) -> None:
        """Called by a WebSocketResponse once its 101 is written: bytes belong to it now."""
        super().set_parser(parser, *args, **kwargs)
        self.lane.upgraded(self.data_received)

    def pause_reading(self) -> None:
        """A payload or WebSocket queue is full."""
        self._reading_paused = True
        self.lane.pause_payload()

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        """A payload or WebSocket queue has room again."""
        if not self._reading_paused:
            return
        self._reading_paused = False
        if self.running is not None:
            self.running.pump()
        if not self._reading_paused:
            self.lane.resume_payload()
