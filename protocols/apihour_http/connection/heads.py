"""What a connection's parser says: heads, bodies and upgrades become requests and exchanges.

Rules:

- The parser decides the boundaries; each byte goes through it once. Large reads are fed in
  slices, and no further slice while answers are outstanding.
- A head is judged when it is complete, before any of its body is kept.
- A refused message is answered after those before it, then the connection closes.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from apihour_http.connection.bodies import begin_body, deliver, follow_body
from apihour_http.connection.ignored_upgrade import parse_on
from apihour_http.connection.prior_knowledge import speaks_http2
from apihour_http.connection.refusals import refuse
from apihour_http.connection.states import HOLDING, PARSING, UPGRADED, UPGRADING
from apihour_http.connection.uploads import begin_upload
from apihour_http.errors import BadRequest, HTTPError
from apihour_http.head import (
    BODY,
    CONNECTION,
    EXPECT,
    FORWARDED,
    HOST,
    TE,
    UPGRADE,
    Fields,
)
from apihour_http.request import Request

if TYPE_CHECKING:
    from apihour_http.service import Service

__all__ = ["Intake"]

# Bytes parsed at a stretch: bounds the requests one read can put into the queue.
SLICE = 16384
# Reads up to this size, or the smallest limit of a field, cannot exceed one: not looked at.
LARGE = 4094
_EMPTY_LINES = (b"\r\n\r", b"\r\n\n", b"\n", b"\r\r")
_SPECIAL = BODY | EXPECT | UPGRADE
# llhttp's words for a version that has the right form, and is none of its own.
_BAD_VERSION = "Invalid HTTP version"
_new = Request.__new__


class Intake:
    """Turns what arrives on one connection into requests and exchanges."""

    __slots__ = (
        "arrived", "between", "body_bytes", "body_since", "chunks", "claimed", "expecting",
        "feed", "fields", "head_bytes", "head_since", "held", "lane", "large", "last_fields",
        "last_seen", "on_body", "on_message_begin", "on_url", "parser", "parts",
        "pending", "service", "set_aside", "sized", "sized_fields", "unseen", "urls",
    )

    fields: Fields
    last_fields: Fields
    sized_fields: Fields | None
    set_aside: tuple[Any, int] | None
    """A message whose body is parsed after an upgrade was ignored, and that body's length."""

    def __init__(self, lane: Any) -> None:
        self.lane = lane
        self.service: Service = lane.service
        self.urls: list[bytes] = []
        # Not empty while the parser stands before a message.
        self.between = [True]
        self.pending: Any = None
        self.claimed: Any = None
        self.held = b""
        self.large = False
        self.expecting = False
        self.head_bytes = 0
        self.body_bytes = 0
        self.head_since = self.body_since = self.arrived = 0.0
        self.parser: Any = None
        self.feed: Any = self.feed_first

    def feed_first(self, data: bytes) -> None:
        """Make the parser and what it fills, and feed it.

        A connection whose reads are all compiled's has none of that.
        """
        self.fields, self.last_fields = [], []
        self.last_seen = self.sized = self.unseen = 0
        self.sized_fields = self.set_aside = None
        self.chunks: list[bytes] = []
        self.parts: list[bytes] = []
        # Bound once: for these the parser calls C, not Python.
        self.on_url = self.urls.append
        self.on_body = self.chunks.append
        self.on_message_begin = self.between.clear
        self.parser = self.service.binding.make(self)
        self.feed = self.parser.feed_data
        self.feed(data)

    def expect_nothing(self) -> None:
        """A request that the parser has not seen is the last (RFC 9112 9.6)."""
        self.feed = self.refuse_more

    def refuse_more(self, data: bytes) -> None:
        """Raise ValueError for what follows the last request, as llhttp would: no empty line."""
        if data.strip(b"\r\n"):
            raise ValueError("Data after `Connection: close`")

    def end(self) -> None:
        """The connection is gone."""
        self.lane = self.parser = self.feed = None
        self.held = b""
        self.pending = None
        self.expecting = False

    def drop(self) -> Any:
        """Forget what is under way; the message whose body was awaited is returned."""
        self.urls.clear()
        if self.parser is not None:
            self.chunks.clear()
        self.held = b""
        self.claimed = None
        pending, self.pending = self.pending, None
        return pending

    # -- the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        urls, service, parser = self.urls, self.service, self.parser
        target = urls[0] if len(urls) == 1 else b"".join(urls)
        urls.clear()
        fields = self.fields
        self.fields = []
        self.head_bytes = 0
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
        methods, values = service.resolve(method, target)
        endpoint = methods.get(method)
        if endpoint is None and (methods or service.app_host is None):
            endpoint = service.table.stand_in(method, methods, fields)
        if endpoint is None:
            self._begin_hosted(method, target, fields, seen, keep, modern)
            return
        self.pending = request = _new(Request)
        request.lane = self.lane
        request.endpoint = endpoint
        request.verb, request.target, request.raw_headers = method, target, fields
        request.match_info = values.copy() if values else {}
        request.keep, request.modern = keep, modern
        request.plain = keep and modern and method != b"HEAD"
        request.body = b""
        request.arrived = self.arrived
        self.large = False
        if seen & _SPECIAL:
            self._begin_body(request, seen)

    def _begin_body(self, request: Request, seen: int) -> None:
        if request.endpoint.streams_body:
            begin_upload(self, request, seen)
            return
        length = begin_body(self, request.raw_headers, seen, request.modern)
        if seen & UPGRADE and self.parser.should_upgrade():
            if length:
                self.ignore_upgrade(length)
            elif request.modern and request.endpoint.websockets is not None:
                request.endpoint.websockets.begin(self, request)

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
            deliver(self, pending)
            pending.body = b"".join(self.parts)
            self.parts.clear()
        lane = self.lane
        if lane.ready:
            lane.ready = False
            lane.answers.start(pending)
        else:
            lane.answers.queue.append(pending)

    # -- feeding

    def feed_held(self) -> None:
        """Parse the next slice of what is held."""
        size = self.stretch()
        data, self.held = self.held[:size], self.held[size:]
        lane = self.lane
        if not self.held and lane.state is HOLDING:
            lane.become(PARSING)
        lane.ready = False
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
        known = self.service.binding.tells_begin or not self.lane.conn.requests
        if between and known and data.startswith(_EMPTY_LINES):
            # RFC 9112 2.2 forgives one empty line before a request; llhttp skips any number.
            refuse(self.lane, BadRequest("more than one empty line before a request"))
            return b""
        self.large = True
        size = self.stretch()
        if len(data) > size:
            self.held = data[size:] + self.held
            self.lane.become(HOLDING)
            data = data[:size]
        return data

    def stretch(self) -> int:
        """Bytes to parse at once: all that is left of a body of known length has no requests."""
        return max(SLICE, getattr(self.pending, "left", 0))

    def parser_stopped(self, error: Exception, data: bytes) -> None:
        """Handle what the parser raised: an upgrade, a refusal, a malformed message."""
        if self.lane is None or self.lane.transport is None or speaks_http2(
                self, error, data):
            return
        binding = self.service.binding
        if isinstance(error, binding.upgrade):
            self._upgrade_requested(data[error.args[0]:])
        elif isinstance(error, binding.callback):
            self.went_wrong(error.__context__)
        elif _BAD_VERSION in str(error):
            refuse(self.lane, BadRequest("expected HTTP/1.1 or HTTP/1.0", 505))
        else:
            refuse(self.lane, BadRequest(f"malformed request: {ascii(str(error))[1:-1][:80]}"))

    def went_wrong(self, error: BaseException | None) -> None:
        """Refuse a message whose begin raised `error`, which is logged if it was not meant to."""
        if not isinstance(error, HTTPError):
            # The host's handler knows the worker, the server and the peer, and counts repeats.
            self.lane.loop.call_exception_handler({
                "message": "HTTP parser callback failed", "exception": error,
                "transport": self.lane.transport, "request": "HTTP parser callback failed"})
            error = HTTPError(500)
        refuse(self.lane, error)

    def incomplete(self, size: int) -> None:
        """A message is under way after `size` more bytes: mind its size and its pace."""
        options = self.service.options
        self.large = True
        if self.pending is not None:
            if self.claimed is not None:
                self.lane.answers.queue.append(self.claimed)
                self.claimed = None
            try:
                follow_body(self, size)
            except BadRequest as error:
                refuse(self.lane, error)
                return
            self.lane.deadlines.arm(options.body_timeout)
            return
        if not self.head_bytes:
            self.head_since = self.arrived
            self.lane.deadlines.arm(options.header_timeout)
        self.head_bytes += size
        if self.head_bytes > options.max_head:
            line = getattr(self.parser, "line", 0) or sum(map(len, self.urls))
            is_target = line > options.max_line
            refuse(self.lane, BadRequest("the request head is too long", 414 if is_target else 431))

    def measure_body(self, since: float) -> None:
        """Judge the pace of the body from `since` on (monotonic time)."""
        self.body_since = since
        self.body_bytes = 0

    def send_continue(self) -> None:
        """Ask for the body that an Expect announced (RFC 9110 10.1.1)."""
        self.expecting = False
        self.lane.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- for the application

    def take_hosted(
        self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], keep: bool,
        forwarded: bool, body: bytes,
    ) -> None:
        """Take a whole plain request, as the extension has read it."""
        lane = self.lane
        if lane.hosted is None:
            lane.hosted = self.service.app_host.connect(lane)
        exchange = lane.hosted.exchange(
            method, target, fields, keep, True, len(body), False, monotonic(), False, forwarded)
        if body:
            exchange.feed(body)
        exchange.complete()
        lane.ready = False
        lane.answers.start_hosted(exchange)

    def _begin_hosted(
        self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], seen: int,
        keep: bool, modern: bool,
    ) -> None:
        length = begin_body(self, fields, seen, modern) if seen & _SPECIAL else 0
        upgrade = bool(seen & UPGRADE) and modern and self.parser.should_upgrade()
        self.large = False
        lane = self.lane
        if lane.hosted is None:
            lane.hosted = self.service.app_host.connect(lane)
        self.pending = exchange = lane.hosted.exchange(
            method, target, fields, keep, modern, length, upgrade and not length, self.arrived,
            bool(seen & TE), bool(seen & FORWARDED),
        )
        if not length:
            return
        if lane.ready:
            # Its handler starts when this read is parsed, with as much as came of the body.
            lane.ready = False
            self.claimed = exchange
        else:
            lane.answers.queue.append(exchange)
        if seen & UPGRADE and self.parser.should_upgrade():
            self.ignore_upgrade(length)

    def ignore_upgrade(self, length: int) -> None:
        """A body that comes with an Upgrade is HTTP's (RFC 9110 7.8), see ignored_upgrade."""
        if not self.service.binding.reads_on:
            self.set_aside = self.pending, length
            self.pending = None

    def _complete_hosted(self, exchange: Any) -> None:
        if exchange is None:
            return
        if self.chunks:
            deliver(self, exchange)
        exchange.complete()
        lane = self.lane
        if exchange is self.claimed:
            self.claimed = None
            lane.answers.start_hosted(exchange)
            return
        if exchange.has_body:
            return
        if lane.ready:
            lane.ready = False
            lane.answers.start_hosted(exchange)
        else:
            lane.answers.queue.append(exchange)

    def _upgrade_requested(self, tail: bytes) -> None:
        """The last message asked for another protocol; `tail` follows it."""
        lane = self.lane
        if lane.state is UPGRADED:
            # Its handler has accepted it already (an eager task, 3.12).
            lane.feed_frames(tail)
            return
        if self.set_aside is not None:
            (self.pending, length), self.set_aside = self.set_aside, None
            parse_on(self, length)
            self.held = tail + self.held
            return
        queue = lane.answers.queue
        asked = queue[-1] if queue else lane.answers.current
        if asked is not None and getattr(asked, "websocket", False):
            lane.tail = tail
            lane.become(UPGRADING)
        elif tail:
            # Another upgrade is ignored (RFC 9110 7.8), what follows is HTTP/1.1.
            self.held = tail + self.held


def _check_version(version: str) -> bool:
    """Whether `version` is 1.1; raises BadRequest for what is neither that nor 1.0."""
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP/{version} is not spoken here", 505)
    return version == "1.1"
