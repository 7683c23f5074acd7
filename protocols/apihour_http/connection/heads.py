"""The connection seen from its parser: heads, bodies, upgrades and refusals.

Rules:

- The parser decides the boundaries; each byte goes through it once. Large reads are fed in
  slices, and no further slice while answers are outstanding.
- A head is judged when it is complete, before any of its body is kept.
- A refused message is answered after those before it, then the connection closes.
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Any

from apihour_http.connection.bytes import Wire
from apihour_http.connection.ignored_upgrade import parse_on
from apihour_http.connection.states import DISCARDING, HOLDING, PARSING, UPGRADED, UPGRADING
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
from apihour_http.request import Head, Request

if TYPE_CHECKING:
    from apihour_http.access import AccessLog

__all__ = ["Intake"]

# Bytes parsed at a stretch: bounds the requests one read can put into the queue.
SLICE = 16384
# Reads up to this size, or the smallest limit of a field, cannot exceed one: not looked at.
LARGE = 4094
# The longest read that is remembered: each connection holds one.
REPEATABLE = 2048
_EMPTY_LINES = (b"\r\n\r", b"\r\n\n", b"\n", b"\r\r")
_SPECIAL = BODY | EXPECT | UPGRADE
# llhttp's words for a version that has the right form, and is none of its own.
_BAD_VERSION = "Invalid HTTP version"
_new = Request.__new__
_new_head = Head.__new__


class Intake(Wire):
    """Turns what arrives into requests and exchanges."""

    __slots__ = ()

    # -- the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        urls = self.urls
        target = urls[0] if len(urls) == 1 else b"".join(urls)
        urls.clear()
        fields = self.fields
        self.fields = []
        self.head_bytes = 0
        service = self.service
        parser = self.parser
        if fields == self.last_fields:
            # Clients send the same header again and again: judged once.
            seen = self.last_seen
            fields = self.last_fields
        else:
            seen = self.last_seen = service.check_head(fields, self.large)
            self.last_fields = fields
        method = parser.get_method()
        keep = parser.should_keep_alive()
        modern = True
        if seen & CONNECTION or not keep:
            modern = _check_version(parser.get_http_version())
        if modern and not seen & HOST:
            raise BadRequest("HTTP/1.1 needs a Host header")
        methods = service.plain.get(target)
        values: dict[str, Any] = {}
        if methods is None:
            found = service.known.get(target)
            if found is None:
                found = service.table.resolve(method, target)
            methods, values = found
        endpoint = methods.get(method)
        if endpoint is None and (methods or service.app_host is None):
            endpoint = service.table.stand_in(method, methods)
        if endpoint is None:
            self._begin_hosted(method, target, fields, seen, keep, modern)
            return
        head = _new_head(Head)
        head.method = method
        head.target = target
        head.fields = fields
        head.endpoint = endpoint
        head.match_info = values
        head.keep = keep
        head.modern = modern
        head.plain = keep and modern and method != b"HEAD"
        self.pending = request = _new(Request)
        request.lane = self
        request.head = head
        request.match_info = values.copy() if values else {}
        request.body = b""
        request.arrived = self.arrived
        self.large = False
        if seen & _SPECIAL:
            length = self._begin_body(fields, seen, modern)
            if length and seen & UPGRADE and self.parser.should_upgrade():
                self._ignore_upgrade(length)
        else:
            self.latest = head

    def on_message_complete(self) -> None:
        self.between.append(True)
        pending = self.pending
        if self.fields:
            fields, self.fields = self.fields, []
            self.service.checker.check_trailers(fields)
        self.pending = None
        if type(pending) is not Request:
            self._complete_hosted(pending)
            return
        if self.chunks or self.parts:
            self._deliver(pending)
            pending.body = b"".join(self.parts)
            self.parts.clear()
        if self.ready:
            self.ready = False
            self.start(pending)
        else:
            self.queue.append(pending)

    # -- what the other half does

    def start(self, request: Request) -> None:
        """Run a direct endpoint."""
        raise NotImplementedError

    def start_hosted(self, exchange: Any) -> None:
        """Run the application's handler."""
        raise NotImplementedError

    def log(self, request: Request, status: int, size: int, now: float) -> None:
        """Enter a direct request into the access log."""
        raise NotImplementedError

    # -- feeding

    def feed_held(self) -> None:
        """Parse the next slice of what is held."""
        data, self.held = self.held[:SLICE], self.held[SLICE:]
        if not self.held and self.state is HOLDING:
            self.become(PARSING)
        self.ready = False
        try:
            self.feed(data)
        except Exception as error:
            self.parser_stopped(error, data)
        if self.urls or self.pending is not None:
            self.incomplete(len(data))

    def inspect(self, data: bytes) -> bytes:
        """Look closer at a read that is large or begins with a control character.

        Returns what may be parsed now; the rest is held.
        """
        between = not self.urls and self.pending is None and not self.head_bytes
        known = self.service.binding.tells_begin or not self.conn.requests
        if between and known and data.startswith(_EMPTY_LINES):
            # RFC 9112 2.2 forgives one empty line before a request; llhttp skips any number.
            self.refuse(BadRequest("more than one empty line before a request"))
            return b""
        self.large = True
        if len(data) > SLICE:
            self.held = data[SLICE:] + self.held
            self.become(HOLDING)
            data = data[:SLICE]
        return data

    def parser_stopped(self, error: Exception, data: bytes) -> None:
        """Handle what the parser raised: an upgrade, a refusal, a malformed message."""
        if self.transport is None:
            return
        binding = self.service.binding
        if isinstance(error, binding.upgrade):
            self._upgrade_requested(data[error.args[0]:])
        elif isinstance(error, binding.callback):
            cause = error.__context__
            if not isinstance(cause, HTTPError):
                self.service.logger.error("HTTP parser callback failed", exc_info=cause)
                cause = HTTPError(500)
            self.refuse(cause)
        elif _BAD_VERSION in str(error):
            self.refuse(BadRequest("expected HTTP/1.1 or HTTP/1.0", 505))
        else:
            self.refuse(BadRequest(f"malformed request: {ascii(str(error))[1:-1][:80]}"))

    def incomplete(self, size: int) -> None:
        """A message is under way after `size` more bytes: mind its size and its pace."""
        options = self.service.options
        self.large = True
        if self.pending is not None:
            if self.claimed is not None:
                self.queue.append(self.claimed)
                self.claimed = None
            try:
                self._follow_body(size)
            except BadRequest as error:
                self.refuse(error)
                return
            self.arm(options.body_timeout)
            return
        if not self.head_bytes:
            self.head_since = self.arrived
            self.arm(options.header_timeout)
        self.head_bytes += size
        if self.head_bytes > options.max_head:
            line = getattr(self.parser, "line", 0) or sum(map(len, self.urls))
            is_target = line > options.max_line
            self.refuse(BadRequest("the request head is too long", 414 if is_target else 431))

    # -- bodies

    def _begin_body(self, fields: list[tuple[bytes, bytes]], seen: int, modern: bool) -> int:
        """Look at what announces a body; return its length, -1 when chunked."""
        length = 0
        is_direct = type(self.pending) is Request
        if fields is self.sized_fields:
            length = self.sized
        elif seen & (CONTENT_LENGTH | EXPECT):
            for name, value in fields:
                size = len(name)
                if size == 14 and name.lower() == b"content-length":
                    length = int(value)
                elif size == 6 and modern and name.lower() == b"expect":
                    if value.strip(b" \t").lower() != b"100-continue":
                        raise BadRequest("Expect: expected 100-continue", 417)
                    self.expecting = is_direct
            if not seen & EXPECT:
                self.sized_fields, self.sized = fields, length
        if seen & TRANSFER_ENCODING:
            if not modern:
                raise BadRequest("Transfer-Encoding in HTTP/1.0")
            length = -1
        if is_direct and length > self.service.options.max_body:
            self.discard_up_to(length)
            raise self._too_large()
        self.body_since = self.arrived
        self.body_bytes = self.unseen = 0
        if self.expecting:
            if not length:
                self.expecting = False
            elif self.ready:
                self.send_continue()
        return length

    def send_continue(self) -> None:
        """Ask for the body that an Expect announced (RFC 9110 10.1.1)."""
        self.expecting = False
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _deliver(self, pending: Any) -> None:
        """Hand on what the parser collected of a body since the last time."""
        chunks = self.chunks
        piece = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.body_bytes += len(piece)
        if type(pending) is not Request:
            pending.feed(piece)
            return
        self.expecting = False
        if self.body_bytes > self.service.options.max_body:
            raise self._too_large()
        self.parts.append(piece)

    def _follow_body(self, size: int) -> None:
        """Hand on what came; what is no body (chunk extensions, trailers) must not be endless."""
        if self.chunks:
            self.unseen = 0
            self._deliver(self.pending)
            return
        self.unseen += size
        options = self.service.options
        if self.unseen > options.max_head or len(self.fields) > options.max_fields:
            raise BadRequest("too much that is no body within it", 431)

    def _too_large(self) -> BadRequest:
        return BadRequest(f"a body over {self.service.options.max_body} bytes", 413)

    # -- for the application

    def _begin_hosted(
        self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], seen: int,
        keep: bool, modern: bool,
    ) -> None:
        length = self._begin_body(fields, seen, modern) if seen & _SPECIAL else 0
        upgrade = bool(seen & UPGRADE) and modern and self.parser.should_upgrade()
        self.large = False
        if self.hosted is None:
            self.hosted = self.service.app_host.connect(self)
        self.pending = exchange = self.hosted.exchange(
            method, target, fields, keep, modern, length, upgrade and not length, self.arrived,
        )
        if not length:
            if not seen & _SPECIAL:
                self.latest = exchange.message
            return
        if self.ready:
            # Its handler starts when this read is parsed, with as much as came of the body.
            self.ready = False
            self.claimed = exchange
        else:
            self.queue.append(exchange)
        if seen & UPGRADE and self.parser.should_upgrade():
            self._ignore_upgrade(length)

    def _ignore_upgrade(self, length: int) -> None:
        """A body that comes with an Upgrade is HTTP's (RFC 9110 7.8), see ignored_upgrade."""
        if not self.service.binding.reads_on:
            self.set_aside = self.pending, length
            self.pending = None

    def _complete_hosted(self, exchange: Any) -> None:
        if exchange is None:
            return
        if self.chunks:
            self._deliver(exchange)
        exchange.complete()
        if exchange is self.claimed:
            self.claimed = None
            self.start_hosted(exchange)
            return
        if exchange.has_body:
            return
        if self.ready:
            self.ready = False
            self.start_hosted(exchange)
        else:
            self.queue.append(exchange)

    def _upgrade_requested(self, tail: bytes) -> None:
        """The last message asked for another protocol; `tail` follows it."""
        if self.state is UPGRADED:
            # Its handler has accepted it already (an eager task, 3.12).
            self.feed_frames(tail)
            return
        if self.set_aside is not None:
            (self.pending, length), self.set_aside = self.set_aside, None
            parse_on(self, length)
            self.held = tail + self.held
            return
        asked = self.queue[-1] if self.queue else self.current
        if asked is not None and getattr(asked, "websocket", False):
            self.tail = tail
            self.become(UPGRADING)
        elif tail:
            # Another upgrade is ignored (RFC 9110 7.8), what follows is HTTP/1.1.
            self.held = tail + self.held

    # -- refusals

    def refuse(self, error: HTTPError) -> None:
        """Answer `error` after everything that came before it, then close."""
        self.urls.clear()
        self.chunks.clear()
        self.held = b""
        self.claimed = None
        self.service.counters.refused += 1
        pending, self.pending = self.pending, None
        if pending is not None and type(pending) is not Request:
            pending.fail(error)
            if pending is self.current:
                # Its handler may be answering already: the connection closes after it.
                error = BadRequest("")
            elif pending in self.queue:
                self.queue.remove(pending)
            elif pending.answered:
                error = BadRequest("")
        self.refusal, self.refused = error, pending
        self.become(DISCARDING)
        if self.current is None and not self.queue:
            self.send_refusal()

    def send_refusal(self) -> None:
        """Send the refusal whose turn has come; an empty one only closes."""
        if self.is_at_end():
            self.refusal = None
            self.close()
            return
        error, self.refusal = self.refusal, None
        refused, self.refused = self.refused, None
        if error is None or self.transport is None or self.transport.is_closing():
            return
        if error.detail or not isinstance(error, BadRequest):
            status, size, data, _ = self.service.renderer.render(
                error, "Connection: close\r\n", False)
            self.write(data)
            self.service.counters.classes[status // 100] += 1
            if self.service.log is not None:
                self._log_refusal(refused, status, size, self.service.log)
        self.close_discarding()

    def _log_refusal(self, refused: Any, status: int, size: int, log: AccessLog) -> None:
        now = monotonic()
        if refused is None:
            since = self.head_since if self.head_bytes else self.arrived
            log.add((time(), self.remote(), "-", "-", "-", status, size, now - since, None, None))
        elif type(refused) is Request:
            self.log(refused, status, size, now)
        else:
            refused.log(log, status, size, now)


def _check_version(version: str) -> bool:
    """Whether `version` is 1.1; raises BadRequest for what is neither that nor 1.0."""
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP/{version} is not spoken here", 505)
    return version == "1.1"
