"""The connection: one parser, two lanes, answers in order.

Rules:

- The parser decides the boundaries; each byte goes through it once. Large reads are fed in
  slices, and no further slice while answers are outstanding or the client does not read.
- At most one request runs at a time; others wait in ``queue``, in the order received.
- A direct endpoint starts when its message is complete; the application's handler starts
  when the head is complete, its body is streamed.
- A refused message is answered after those before it, then the connection closes.
- One timer per connection; it looks at the state when it fires and sets itself again.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from time import monotonic, time
from typing import TYPE_CHECKING, Any, cast

from apihour_http.errors import BadRequest, HTTPError
from apihour_http.head import (
    BODY,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TRANSFER_ENCODING,
    UPGRADE,
)
from apihour_http.request import Request

if TYPE_CHECKING:
    from apihour_http.aiohttp_lane import Exchange
    from apihour_http.server import HTTPServer

__all__ = ["Lane"]

# Bytes parsed at a stretch: bounds the requests one read can put into the queue.
SLICE = 16384
# What a slice costs of the budget of a turn: one-byte chunks make it a millisecond.
_SLICE_COST = 8
# Bytes kept for a handler that has yet to accept its WebSocket.
_TAIL = 65536
# Seconds and bytes for which input is discarded, so that the refusal reaches the client
# before the reset that closing with unread input causes (RFC 9112 9.6).
_DISCARD_SECONDS = 1.0
_DISCARD_BYTES = 262144
# Seconds between two looks at a connection whose state has no deadline.
_LOOK = 15.0

# Where incoming bytes go when they do not go straight to the parser.
HTTP, HELD, UPGRADING, UPGRADED, DISCARD = range(5)
# Reasons to stop reading.
_QUEUE, _PAYLOAD, _WRITE, _UPGRADE = 1, 2, 4, 8

if sys.version_info >= (3, 12):

    def _task(coro: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        return asyncio.Task(coro, loop=loop, eager_start=True)
else:
    _task = asyncio.Task


class Row:
    """Stands in for the host's connection row when there is no host."""

    __slots__ = ("requests", "state")

    def __init__(self) -> None:
        self.state = "open"
        self.requests = 0


class Lane(asyncio.Protocol):
    """One HTTP/1 connection of an :class:`apihour_http.HTTPServer`."""

    __slots__ = (
        "arrived",
        "body_bytes",
        "body_since",
        "chunks",
        "conn",
        "current",
        "detour",
        "discarded",
        "exchange",
        "expecting",
        "feed",
        "fields",
        "head_bytes",
        "head_since",
        "held",
        "hosted",
        "idle_since",
        "large",
        "loop",
        "on_body",
        "on_url",
        "parser",
        "parts",
        "paused",
        "pending",
        "queue",
        "ready",
        "refusal",
        "server",
        "tail",
        "timer",
        "timer_at",
        "transport",
        "urls",
        "write",
        "write_mark",
        "write_paused",
    )

    def __init__(self, server: HTTPServer, conn: Any = None) -> None:
        self.server = server
        self.loop = server.loop
        self.conn = conn if conn is not None else Row()
        self.transport: asyncio.Transport | None = None
        self.urls: list[bytes] = []
        self.fields: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.parts: list[bytes] = []
        # Bound once, so that the parser calls C and not Python for these two.
        self.on_url = self.urls.append
        self.on_body = self.chunks.append
        self.parser = server.binding.make(self)
        self.feed = self.parser.feed_data
        self.queue: deque[Any] = deque()
        self.current: Any = None
        self.pending: Any = None
        self.hosted: Any = None
        self.held: bytes = b""
        self.tail = b""
        self.refusal: HTTPError | None = None
        self.detour = HTTP
        self.ready = True
        self.large = False
        self.expecting = False
        self.write_paused = False
        self.paused = 0
        self.discarded = 0
        self.head_bytes = 0
        self.body_bytes = 0
        self.head_since = 0.0
        self.body_since = 0.0
        self.write_mark = (0.0, 0)

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        self.idle_since = monotonic()
        server = self.server
        server.lanes.add(self)
        delay = min(server.keepalive, _LOOK) if server.draining else server.keepalive
        self.timer_at = self.idle_since + delay
        self.timer = self.loop.call_later(delay, self._look)

    def data_received(self, data: bytes) -> None:
        if self.detour:
            self._detour(data)
            return
        self.arrived = monotonic()
        if len(data) > 8190 or data[0] < 33:
            data = self._inspect(data)
        try:
            self.feed(data)
        except Exception as error:
            self._parser_stopped(error, data)
        if self.urls or self.pending is not None:
            self._incomplete(len(data))
        if self.queue or self.held:
            self._advance()
        elif self.current is None:
            self.ready = not self.write_paused

    def eof_received(self) -> bool:
        """Let the answers to complete requests out before closing (direct lane only)."""
        if self.detour >= UPGRADING or self.server.options.cancel_on_disconnect:
            return False
        waiting = [self.current, *self.queue] if self.current is not None else list(self.queue)
        if not waiting or self.hosted is not None:
            return False
        self.refusal = self.refusal or BadRequest("")
        self._set_detour(DISCARD)
        return self.transport is not None and self.transport.can_write_eof()

    def pause_writing(self) -> None:
        self.write_paused = True
        self.ready = False
        self._mark_writing()
        self._arm(self.server.options.write_timeout)
        self._pause(_WRITE)
        if self.hosted is not None:
            self.hosted.pause_writing()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._resume(_WRITE)
        if self.hosted is not None:
            self.hosted.resume_writing()
        if self.current is None:
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.lost(self)
        self.timer.cancel()
        self.transport = None
        self.parser = self.feed = None
        self.detour = DISCARD
        self.ready = False
        self.queue.clear()
        self.held = self.tail = b""
        current, self.pending = self.current, None
        if self.hosted is not None:
            self.hosted.connection_lost(exc)
        elif current is not None and self.server.options.cancel_on_disconnect:
            current.cancel()

    # -- the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        urls = self.urls
        target = urls[0] if len(urls) == 1 else b"".join(urls)
        urls.clear()
        fields = self.fields
        self.fields = []
        server = self.server
        parser = self.parser
        seen = server.check_head(fields, self.large)
        method = parser.get_method()
        keep = parser.should_keep_alive()
        modern = True
        if seen & CONNECTION or not keep:
            modern = self._check_version(parser.get_http_version())
        if not seen & HOST and modern:
            raise BadRequest("HTTP/1.1 needs a Host header (RFC 9112 3.2)")
        methods = server.plain.get(target)
        match_info: dict[str, Any] = {}
        if methods is None:
            if self.large and len(target) > server.options.max_line:
                raise BadRequest("the request target is too long", 414)
            origin = server.checker.check_target(method, target)
            found = server.resolve(origin)
            if found is not None:
                methods, match_info = found
        endpoint = methods.get(method) if methods is not None else None
        if endpoint is None:
            endpoint = server.stand_in(method, methods)
            if endpoint is None:
                self._begin_hosted(method, target, fields, seen, keep, modern)
                return
        request = Request(self, method, target, fields, endpoint, match_info)
        request.keep = keep
        request.modern = modern
        request.plain = keep and modern and method != b"HEAD"
        request.arrived = self.arrived
        self.pending = request
        self.large = False
        if seen & (BODY | EXPECT | UPGRADE):
            self._begin_body(fields, seen, modern)

    def on_message_complete(self) -> None:
        pending = self.pending
        self.pending = None
        if self.fields:
            self._check_trailers()
        if type(pending) is not Request:
            self._complete_hosted(pending)
            return
        if self.chunks or self.parts:
            self._deliver(pending)
            pending.body = b"".join(self.parts)
            self.parts.clear()
        if self.ready:
            self.ready = False
            self._start(pending)
        else:
            self.queue.append(pending)

    # -- running direct endpoints

    def _start(self, request: Request) -> None:
        endpoint = request.endpoint
        conn = self.conn
        conn.requests += 1
        conn.state = "request"
        if endpoint.inline:
            try:
                result = endpoint.call(request)
            except Exception as error:
                result = self.server.failed(request, error)
            self._answer(request, result)
            return
        task = _task(self._run(request), loop=self.loop)
        if not task.done():
            self.current = task

    async def _run(self, request: Request) -> None:
        """The body of the task of one endpoint."""
        try:
            result = await request.endpoint.call(request)
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception as error:
            result = self.server.failed(request, error)
        self._answer(request, result)
        if self.current is not None:
            self.current = None
            if self.queue or self.held or self.refusal is not None or self.expecting:
                self._advance()
            else:
                self.ready = not self.write_paused

    def _answer(self, request: Request, result: Any) -> None:
        server = self.server
        if self.transport is None:
            return
        kind = type(result)
        if (kind is dict or kind is list) and request.plain and not server.draining:
            try:
                text = server.dumps(result)
                if type(text) is str and text.isascii():
                    size = len(text)
                    self.write(f"{server.renderer.json_head}{size}\r\n\r\n{text}".encode())
                    now = monotonic()
                    server.account(200, now - request.arrived)
                    self.idle_since = now
                    self.conn.state = "idle"
                    if server.log is not None:
                        self._log(request, 200, size, now)
                    if now - self.arrived > server.slow and request.endpoint.inline:
                        server.warn_slow(request, now - self.arrived)
                    return
            except Exception as error:
                result = server.failed(request, error)
        self._answer_any(request, result)

    def _answer_any(self, request: Request, result: Any) -> None:
        """The general case of an answer: any type, any version, HEAD, last on its connection."""
        server = self.server
        last = not request.keep or (server.draining and not self.queue and not self.held)
        connection = ""
        if last:
            connection = "Connection: close\r\n"
        elif not request.modern:
            connection = "Connection: keep-alive\r\n"
        head_only = request._method == b"HEAD"
        try:
            status, size, data = server.renderer.render(result, connection, head_only)
        except Exception as error:
            result = server.failed(request, error)
            status, size, data = server.renderer.render(result, connection, head_only)
        self.write(data)
        now = monotonic()
        server.account(status, now - request.arrived)
        self.idle_since = now
        self.conn.state = "idle"
        if server.log is not None:
            self._log(request, status, size, now)
        if now - self.arrived > server.slow and request.endpoint.inline:
            server.warn_slow(request, now - self.arrived)
        if last:
            self.close()

    def _log(self, request: Request, status: int, size: int, now: float) -> None:
        log = self.server.log
        assert log is not None
        referer = agent = None
        for name, value in request.fields:
            if len(name) == 7 and name.lower() == b"referer":
                referer = value.decode("latin-1")
            elif len(name) == 10 and name.lower() == b"user-agent":
                agent = value.decode("latin-1")
        log.add((
            time(), self.remote(), request.method, request.path_qs,
            "HTTP/1.1" if request.modern else "HTTP/1.0", status, size,
            now - request.arrived, referer, agent,
        ))

    # -- order and flow

    def _advance(self) -> None:
        """Start what waits, up to the budget, and parse what is held."""
        budget = self.server.options.budget
        while self.transport is not None and self._can_go_on():
            if self.transport.is_closing():
                self.queue.clear()
                self.held = b""
                return
            if budget <= 0:
                self._pause(_QUEUE)
                self.loop.call_soon(self._advance)
                return
            if self.queue and self.current is None:
                budget -= 1
                item = self.queue.popleft()
                if type(item) is Request:
                    self._start(item)
                else:
                    self._start_hosted(item)
            elif self.refusal is not None:
                self._send_refusal()
                return
            else:
                budget -= _SLICE_COST
                self._feed_held()
        self._settle()

    def _can_go_on(self) -> bool:
        """Whether something waits that nothing before it holds up."""
        if self.current is None:
            if self.write_paused:
                return False
            return bool(self.queue or self.held or self.refusal is not None)
        # The running handler waits for the body that is held.
        return bool(self.held) and self.pending is self.current and not self.paused & _PAYLOAD

    def _settle(self) -> None:
        """Set what depends on the state after a turn: reading, readiness, 100 Continue."""
        if self.expecting and self.current is None and not self.queue:
            self._continue()
        if self.held and self.detour == HTTP:
            self._set_detour(HELD)
        if self.held or (self.queue and self.pending is None):
            self._pause(_QUEUE)
        else:
            self._resume(_QUEUE)
        self.ready = (
            self.current is None and not self.queue and not self.held and not self.write_paused
            and not self.detour
        )

    def _feed_held(self) -> None:
        data, self.held = self.held[:SLICE], self.held[SLICE:]
        if not self.held and self.detour == HELD:
            self._set_detour(HTTP)
        self.ready = False
        try:
            self.feed(data)
        except Exception as error:
            self._parser_stopped(error, data)
        if self.urls or self.pending is not None:
            self._incomplete(len(data))

    def _inspect(self, data: bytes) -> bytes:
        """Look closer at a read that is large, or begins with a control character."""
        if data[0] in b"\r\n" and not self.urls and self.pending is None and not self.head_bytes:
            # RFC 9112 2.2: one empty line before a request is forgiven, llhttp skips any
            # number of them.
            if data.startswith(b"\r\n"):
                data = data[2:]
            if data[:1] in (b"\r", b"\n"):
                self._refuse(BadRequest("more than one empty line before the request"))
                return b""
        self.large = True
        if len(data) > SLICE:
            self.held = data[SLICE:] + self.held
            self._set_detour(HELD)
            data = data[:SLICE]
        return data

    def _detour(self, data: bytes) -> None:
        """Take bytes that must not go to the parser now."""
        if self.detour == UPGRADED:
            self.hosted.data_received(data)
        elif self.detour == HELD:
            self.held += data
        elif self.detour == UPGRADING:
            self.tail += data
            if len(self.tail) > _TAIL:
                self._pause(_UPGRADE)
        else:
            self.discarded += len(data)
            if self.discarded > _DISCARD_BYTES:
                self.abort()

    def _set_detour(self, detour: int) -> None:
        if self.detour != DISCARD:
            self.detour = detour
        self.ready = False

    def _parser_stopped(self, error: Exception, data: bytes) -> None:
        """Handle what `feed` raised: an upgrade, a refusal, a malformed message."""
        binding = self.server.binding
        if isinstance(error, binding.upgrade):
            self._upgrade_requested(data[error.args[0]:])
        elif isinstance(error, binding.callback):
            cause = error.__context__
            if not isinstance(cause, HTTPError):
                self.server.logger.error("HTTP parser callback failed", exc_info=cause)
                cause = HTTPError(500)
            self._refuse(cause)
        else:
            self._refuse(BadRequest(f"malformed request: {ascii(str(error))[1:81]}"))

    def _refuse(self, error: HTTPError) -> None:
        """Answer `error` after everything that came before it, then close."""
        self.urls.clear()
        self.held = b""
        self.server.statistics_.refused += 1
        if self.pending is not None and type(self.pending) is not Request:
            self.pending.fail(error)
            if self.current is self.pending:
                # Its handler may be answering already: the connection closes after it.
                self.current.keep = False
                error = BadRequest("")
        self.pending = None
        self.refusal = error
        self._set_detour(DISCARD)
        if self.current is None and not self.queue:
            self._send_refusal()

    def _send_refusal(self) -> None:
        error, self.refusal = self.refusal, None
        assert error is not None
        if self.transport is None or self.transport.is_closing():
            return
        if error.detail or not isinstance(error, BadRequest):
            _, _, data = self.server.renderer.render(error, "Connection: close\r\n", False)
            self.write(data)
            self.server.statistics_.classes[error.status // 100] += 1
        self.close_discarding()

    # -- bodies

    def _check_version(self, version: str) -> bool:
        if version not in ("1.1", "1.0"):
            raise BadRequest(f"HTTP/{version} is not spoken here", 505)
        return version == "1.1"

    def _begin_body(self, fields: list[tuple[bytes, bytes]], seen: int, modern: bool) -> int:
        """Look at what announces a body; return its length, -1 when chunked."""
        length = 0
        for name, value in fields if seen & (CONTENT_LENGTH | EXPECT) else ():
            lower = name.lower()
            if lower == b"content-length":
                length = int(value)
            elif lower == b"expect" and modern:
                if value.strip(b" \t").lower() != b"100-continue":
                    raise BadRequest("expected Expect: 100-continue", 417)
                self.expecting = type(self.pending) is Request
        if seen & TRANSFER_ENCODING:
            if not modern:
                raise BadRequest("Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)")
            length = -1
        if seen & UPGRADE and length and self.parser.should_upgrade():
            raise BadRequest("a body with an Upgrade request is not supported")
        if type(self.pending) is Request and length > self.server.options.max_body:
            raise BadRequest(f"a body over {self.server.options.max_body} bytes", 413)
        self.body_since = self.arrived
        self.body_bytes = 0
        if self.expecting:
            if not length:
                self.expecting = False
            elif self.current is None and not self.queue and self.ready:
                self._continue()
        return length

    def _continue(self) -> None:
        self.expecting = False
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _deliver(self, pending: Any) -> None:
        """Hand on what the parser collected of a body since the last time."""
        piece = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self.body_bytes += len(piece)
        if type(pending) is not Request:
            pending.feed(piece)
            return
        self.expecting = False
        if self.body_bytes > self.server.options.max_body:
            raise BadRequest(f"a body over {self.server.options.max_body} bytes", 413)
        self.parts.append(piece)

    def _check_trailers(self) -> None:
        fields, self.fields = self.fields, []
        self.server.checker.check_trailers(fields)

    def _incomplete(self, size: int) -> None:
        """A message is under way: mind its size and its pace."""
        self.large = True
        if self.pending is not None:
            if self.chunks:
                try:
                    self._deliver(self.pending)
                except BadRequest as error:
                    self._refuse(error)
                    return
            self.head_bytes = 0
            self._arm(self.server.options.body_timeout)
            return
        if not self.head_bytes:
            self.head_since = self.arrived
            self._arm(self.server.options.header_timeout)
        self.head_bytes += size
        if self.head_bytes > self.server.options.max_head:
            long_target = sum(map(len, self.urls)) > self.server.options.max_line
            self._refuse(BadRequest("the request head is too long", 414 if long_target else 431))

    # -- the application's lane

    def _begin_hosted(
        self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], seen: int,
        keep: bool, modern: bool,
    ) -> None:
        length = self._begin_body(fields, seen, modern) if seen & (BODY | EXPECT | UPGRADE) else 0
        self.large = False
        self.head_bytes = 0
        if self.hosted is None:
            assert self.server.app_host is not None
            self.hosted = self.server.app_host.connect(self)
        exchange = self.hosted.exchange(
            method, target, fields, keep, modern, length,
            bool(seen & UPGRADE) and self.parser.should_upgrade(), self.arrived,
        )
        self.pending = exchange
        if length:
            self.queue.append(exchange)
            self.ready = False

    def _complete_hosted(self, exchange: Exchange | None) -> None:
        if exchange is None:
            return
        if self.chunks:
            self._deliver(exchange)
        exchange.complete()
        if exchange.has_body:
            return
        if self.ready:
            self.ready = False
            self._start_hosted(exchange)
        else:
            self.queue.append(exchange)

    def _start_hosted(self, exchange: Exchange) -> None:
        conn = self.conn
        conn.requests += 1
        conn.state = "request"
        self.current = exchange
        exchange.run()

    def hosted_done(self, exchange: Exchange, status: int, size: int) -> None:
        """The application's handler has answered; `exchange.keep` says what comes next."""
        now = monotonic()
        server = self.server
        server.account(status, now - exchange.arrived)
        if server.log is not None:
            exchange.log(server.log, status, size, now)
        self.current = None
        self.idle_since = now
        if self.transport is None:
            return
        if self.detour == UPGRADED:
            self.transport.close()
            return
        self.conn.state = "idle"
        if not exchange.keep:
            if exchange.is_complete:
                self.close()
            else:
                self.close_discarding()
            return
        if not exchange.is_complete:
            self.close_discarding()
            return
        if self.detour == UPGRADING:
            tail, self.tail = self.tail, b""
            self._set_detour(HTTP)
            self._resume(_UPGRADE)
            self.held = tail + self.held
        if self.queue or self.held or self.refusal is not None or self.expecting:
            self._advance()
        else:
            self.ready = not self.write_paused and not self.detour

    def _upgrade_requested(self, tail: bytes) -> None:
        """The last message asked for another protocol; `tail` follows it."""
        asked = self.queue[-1] if self.queue else self.current
        if asked is not None and getattr(asked, "websocket", False):
            self.tail = tail
            self._set_detour(UPGRADING)
        elif tail:
            # Another upgrade is ignored (RFC 9110 7.8), what follows is HTTP/1.1.
            self.held = tail + self.held

    def upgraded(self) -> None:
        """The handler accepted its WebSocket: bytes go there from now on."""
        self.conn.state = "websocket"
        self.detour = UPGRADED
        tail, self.tail = self.tail, b""
        self._resume(_UPGRADE)
        if tail:
            self.hosted.data_received(tail)

    # -- reading on and off

    def _pause(self, reason: int) -> None:
        if not self.paused and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused |= reason

    def _resume(self, reason: int) -> None:
        if self.paused & reason:
            self.paused &= ~reason
            if not self.paused and self.transport and not self.transport.is_closing():
                self.transport.resume_reading()

    def pause_payload(self) -> None:
        """The application does not keep up with the body."""
        self._pause(_PAYLOAD)

    def resume_payload(self) -> None:
        """The application wants more of the body."""
        if self.paused & _PAYLOAD:
            self.body_since = monotonic()
            self.body_bytes = 0
            self._resume(_PAYLOAD)
            if self.held:
                self._advance()

    # -- time

    def _arm(self, delay: float) -> None:
        """Look at the connection again in `delay` seconds at the latest."""
        when = monotonic() + delay
        if when < self.timer_at:
            self.timer.cancel()
            self.timer_at = when
            self.timer = self.loop.call_later(delay, self._look)

    def _mark_writing(self) -> None:
        assert self.transport is not None
        self.write_mark = (monotonic(), self.transport.get_write_buffer_size())

    def _look(self) -> None:
        """Act on a deadline that has passed, or come back at the next one."""
        if self.transport is None:
            return
        now = monotonic()
        when, act = self._deadline(now)
        if when <= now:
            act()
            if self.transport is None:
                return
            when = now + 1.0
        delay = min(when - now, _LOOK) if when == float("inf") else when - now
        # uvloop's clock has milliseconds: never come back a hair too early.
        delay += 0.001
        self.timer_at = now + delay
        self.timer = self.loop.call_later(delay, self._look)

    def _deadline(self, now: float) -> tuple[float, Any]:
        """When the present state has lasted too long, and what to do then."""
        options = self.server.options
        assert self.transport is not None
        if self.transport.is_closing() or self.write_paused:
            since, size = self.write_mark
            if self.transport.get_write_buffer_size() < size or not since:
                self._mark_writing()
                since = now
            return since + options.write_timeout, self.abort
        if self.detour == DISCARD and self.refusal is None and self.current is None:
            return self.idle_since + _DISCARD_SECONDS, self.abort
        if self.detour in (UPGRADING, UPGRADED):
            return float("inf"), None
        if self.pending is not None and not self.paused:
            allowance = self.body_bytes / options.body_rate if options.body_rate else 0.0
            return self.body_since + options.body_timeout + allowance, self._too_slow
        if self.current is not None or self.queue:
            return float("inf"), None
        if self.urls:
            return self.head_since + options.header_timeout, self._too_slow
        quiet = self.idle_since + self.server.keepalive
        if self.server.draining:
            since = max(self.idle_since, self.server.drain_since)
            quiet = min(quiet, since + self.server.drain_linger)
        return quiet, self.close

    def _too_slow(self) -> None:
        self.server.statistics_.timeouts += 1
        self._refuse(BadRequest("the request took too long to arrive", 408))

    # -- closing

    def drain(self) -> None:
        """Say goodbye: the next answer is the last; a WebSocket gets 1001."""
        if self.detour == UPGRADED:
            task = self.hosted.goodbye()
            if task is not None:
                self.server.keep_goodbye(task)
        else:
            self._arm(self.server.drain_linger)

    def close(self) -> None:
        """Close once everything written is on its way."""
        self.detour = DISCARD
        self.ready = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._arm(self.server.options.write_timeout)

    def close_discarding(self) -> None:
        """Close, but read on for a moment, so that the last answer is not lost."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.detour = DISCARD
        self.ready = False
        if not transport.can_write_eof():
            self.close()
            return
        transport.write_eof()
        self.idle_since = monotonic()
        self.paused = self.paused or _QUEUE
        self._resume(self.paused)
        self._arm(_DISCARD_SECONDS)

    def abort(self) -> None:
        """Drop the connection, with whatever was not sent."""
        if self.transport is not None:
            self.transport.abort()

    def start_task(self, coro: Any) -> asyncio.Task[None]:
        """Run `coro` in a task, at once where Python can (3.12)."""
        return _task(coro, loop=self.loop)

    def is_last(self) -> bool:
        """Whether nothing waits behind the request that is being answered."""
        return not self.queue and not self.held

    def in_flight(self) -> int:
        """Requests being answered or waiting."""
        return len(self.queue) + (self.current is not None and self.detour != UPGRADED)

    def is_websocket(self) -> bool:
        """Whether the connection is a WebSocket now."""
        return self.detour == UPGRADED

    def remote(self) -> str | None:
        """The peer's address without its port; None for a unix socket."""
        address = getattr(self.conn, "peer_address", None)
        if address is None and self.transport is not None:
            address = self.transport.get_extra_info("peername")
        return str(address[0]) if isinstance(address, tuple) else None
