"""The full lane: an unmodified aiohttp application behind the connection's parser.

Rules:

- The application sees aiohttp's own request, payload and transport; only the parsing,
  the timeouts, the drain and the access log are the lane's.
- A body is streamed as it comes, and reading stops while the handler does not keep up.
- Start-up and clean-up are aiohttp's own runner's, signals and contexts included.
"""

from __future__ import annotations

from collections import deque
from time import time
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

from apihour_http.aiohttp.private import (
    EMPTY_PAYLOAD,
    DeflateBuffer,
    Hosted,
    RawRequestMessage,
    RequestPayloadError,
    StreamReader,
    check_options,
    handler_options,
    subapplications,
)
from apihour_http.aiohttp_answers import CONTAINER
from apihour_http.connection.peer import is_proxied
from apihour_http.errors import BadRequest, HTTPError
from apihour_http.hush import hush
from apihour_http.speed import compiled

if TYPE_CHECKING:
    import logging

    from apihour_http.access import AccessLog
    from apihour_http.hosting import HostingLane

__all__ = ["AiohttpExchange", "AppHost"]

# Header spellings and targets remembered at most, and the longest target: a peer that
# invents new ones gains nothing.
_REMEMBERED = 512
_LONGEST = 256
# Bytes of a body kept for a handler that does not read, as in aiohttp.
_READ_LIMIT = 65536
# The rest of a body (bytes) that is read for nobody, so that its connection stays open.
_DISCARDED = 1 << 20
_METHODS = {name.encode(): name for name in hdrs.METH_ALL}
_ENCODINGS = frozenset({"gzip", "deflate", "br", "zstd"})
# Seconds a handler has to end when the server stops: its connection is gone already.
_SHUTDOWN = 0.1


class HeaderKeys(dict[bytes, str]):
    """The key of each spelling of a header's name, made when it is first met."""

    def __missing__(self, name: bytes) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        key = self[name] = istr(name.decode("ascii"))
        return key


class AiohttpExchange:
    """One request of the full lane: its message, and what becomes of it."""

    __slots__ = ("answered", "arrived", "failure", "forwarded", "hosted", "is_complete",
                 "keep", "lane", "message", "payload", "websocket")
    has_body = False
    left = 0
    forwarded: bool
    """Whether a proxy says whom it asks for."""

    def __init__(
        self, hosted: AiohttpConnection, message: Any, payload: Any, arrived: float, keep: bool,
    ) -> None:
        self.hosted = hosted
        self.lane = hosted.lane
        self.message = message
        self.payload = payload
        self.arrived = arrived
        self.keep = keep
        self.answered = self.is_complete = False
        self.websocket = False
        self.failure: HTTPError | None = None

    def complete(self) -> None:
        """The message has ended."""
        self.is_complete = True

    def fail(self, error: HTTPError) -> None:
        """The message is broken: the connection closes after it."""
        self.keep = False
        self.failure = error

    def feed(self, piece: bytes) -> None:
        """Hand a piece of the body to the handler; here there is none."""

    def pump(self) -> None:
        """Move what is held into the payload; here there is none."""

    def is_too_long_to_discard(self, continued: bool) -> bool:
        """Whether to close after an answer that comes now; here nothing is left to come."""
        return False

    def abandon(self) -> None:
        """Its handler has answered: what is still to come is for nobody."""
        self.answered = True

    def named(self) -> tuple[str, str]:
        """Method and target."""
        return self.message.method, self.message.path

    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header fields, as they came."""
        found: tuple[tuple[bytes, bytes], ...] = self.message.raw_headers
        return found

    def client(self) -> str | None:
        """The address of who sent the request."""
        lane = self.lane
        return lane.client(self.message.raw_headers) if self.forwarded else lane.remote()

    def log(self, log: AccessLog, status: int, size: int, now: float) -> None:
        """Enter the exchange into the access log."""
        message = self.message
        headers = message.headers
        log.add((
            time(), self.client(), message.method, message.path,
            f"HTTP/{self.lane.http_version}" if message.version.minor else "HTTP/1.0", status, size,
            now - self.arrived, headers.get("Referer"), headers.get("User-Agent"),
        ))


class AiohttpUpload(AiohttpExchange):
    """An exchange whose body is on its way."""

    __slots__ = ("_backlog", "_ended", "_more", "_sink", "left")
    has_body = True

    def __init__(
        self, hosted: AiohttpConnection, message: Any, payload: Any, arrived: float, keep: bool,
        length: int,
    ) -> None:
        # As AiohttpExchange does: one call less in every request with a body.
        self.hosted = hosted
        self.lane = hosted.lane
        self.message = message
        self.payload = payload
        self.arrived = arrived
        self.keep = keep
        self.answered = self.is_complete = self.websocket = False
        self.failure = None
        self.left = length  # below 0 of a chunked body, which does not say
        self._sink = payload
        self._backlog: deque[bytes] = deque()
        self._more = False
        self._ended = False

    def decompress(self, encoding: str) -> None:
        """Decode the body on its way. Raises BadRequest for an encoding not installed."""
        try:
            self._sink = DeflateBuffer(self.payload, encoding)
        except Exception as error:
            raise BadRequest(f"Content-Encoding {encoding}: not supported", 415) from error

    def feed(self, piece: bytes) -> None:
        """Hand a piece of the body to the handler."""
        sink = self._sink
        self.left -= len(piece)
        if sink is None or not piece:
            return
        if sink is self.payload and not self._backlog and not self.hosted._reading_paused:
            sink.feed_data(piece)  # keeps all of it, and there is nothing to decode
        else:
            self._backlog.append(piece)
            self.pump()

    def pump(self) -> None:
        """Move what is held into the payload, until that is full."""
        sink = self._sink
        if sink is None:
            return
        try:
            while (self._more or self._backlog) and not self.hosted._reading_paused:
                piece = b"" if self._more else self._backlog.popleft()
                self._more = bool(sink.feed_data(piece, len(piece)))
            if self._ended and not self._more and not self._backlog:
                self._sink = None
                sink.feed_eof()
        except Exception as error:
            self._fail(BadRequest(str(error)))

    def complete(self) -> None:
        """The message has ended."""
        self.is_complete = True
        self._ended = True
        sink = self._sink
        if sink is self.payload and not self._backlog:
            self._sink = None
            sink.feed_eof()
        else:
            self.pump()

    def is_too_long_to_discard(self, continued: bool) -> bool:
        """Whether to close after an answer that comes now, for what of the body is to come.

        Said with the answer (RFC 9112 9.6). A client that waits for a 100 Continue may send
        its body after another answer, or leave it (RFC 9110 10.1.1): its next request could
        be taken for that body.
        """
        if self.is_complete:
            return False
        return not 0 <= self.left <= _DISCARDED or (
            not continued and "Expect" in self.message.headers)

    def abandon(self) -> None:
        """Its handler has answered: what is still to come is for nobody."""
        self.answered = True
        self._sink = None
        self._backlog.clear()
        self._more = False
        self.hosted.resume_reading()

    def fail(self, error: HTTPError) -> None:
        """The message is broken: whoever reads it is told."""
        self._fail(error)

    def _fail(self, error: HTTPError) -> None:
        super().fail(error)
        self._sink = None
        self._backlog.clear()
        self._more = False
        self.payload.set_exception(RequestPayloadError(str(error)))


class AiohttpConnection(Hosted):
    """A :class:`Hosted` that makes exchanges out of parsed heads."""

    __slots__ = ("_fields", "_headers", "_proxied", "_raw", "host")
    host: AppHost
    _headers: CIMultiDictProxy[str]
    _raw: tuple[tuple[bytes, bytes], ...]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._fields: list[tuple[bytes, bytes]] | None = None
        self._proxied = is_proxied(self.lane)

    def exchange(
        self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], keep: bool,
        modern: bool, length: int, upgrade: bool, arrived: float, has_te: bool, forwarded: bool,
    ) -> AiohttpExchange:
        """Build aiohttp's message and payload; `length` is -1 for a chunked body."""
        host = self.host
        if fields is not self._fields:
            self._fields = fields
            self._raw = tuple(fields)
            self._headers = CIMultiDictProxy(CIMultiDict(host.decode(fields)))
        headers = self._headers
        path, url = host.urls.get(target) or host.parse(target)
        encoding = None
        if length:
            encoding = headers.get("Content-Encoding", "").lower()
            if encoding not in _ENCODINGS:
                encoding = None
        message = RawRequestMessage(
            _METHODS.get(method) or method.decode(), path,
            HttpVersion11 if modern else HttpVersion10, headers, self._raw, not keep, encoding,
            upgrade, length < 0, url,
        )
        if length:
            payload = StreamReader(self, host.read_limit, loop=self._loop)
            upload = AiohttpUpload(self, message, payload, arrived, keep, length)
            upload.forwarded = forwarded or self._proxied
            if encoding is not None and host.decompresses:
                upload.decompress(encoding)
            return upload
        exchange = AiohttpExchange(self, message, EMPTY_PAYLOAD, arrived, keep)
        exchange.forwarded = forwarded or self._proxied
        if upgrade:
            exchange.websocket = headers.get("Upgrade", "").lower() == "websocket"
        return exchange

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Tell of a failed handler; a logger of the application's own gets aiohttp's line."""
        running = self.running
        if self.logger is not self.host.logger or running is None:
            super().log_exception(*args, **options)
            return
        error = options.get("exc_info")
        said = "the application failed on {} {!a}".format(*running.named())
        if error is None:
            said = f"{said}: {args[0]}"
        # The host's handler knows the worker, the server and the peer, and counts repeats.
        self._loop.call_exception_handler({
            "message": said, "exception": error, "transport": self.transport, "request": said})


class AppHost:
    """Runs one application in this loop and connects lanes to it."""

    def __init__(self, app: web.Application | web.Server) -> None:
        self._app = app
        self._names = HeaderKeys()
        self.urls: dict[bytes, tuple[str, URL]] = {}
        self._runner: web.AppRunner | None = None
        self._manager: web.Server | None = None
        self._options: dict[str, Any] = {}
        self.logger: logging.Logger | None = None
        self.read_limit = _READ_LIMIT
        self.decompresses = True

    async def start(self, container: Any, logger: logging.Logger, debug: bool) -> None:
        """Run the start-up signals and contexts; the application is frozen after it.

        Raises ValueError for an option of its connections that would have no effect.
        """
        app = self._app
        check_options(app)
        hush()
        if isinstance(app, web.Server):
            self._manager = app
        else:
            for application in subapplications(app):
                if not application.frozen:
                    application[CONTAINER] = container
            self.logger = logger
            options: dict[str, Any] = {"logger": logger}
            if debug:
                options["debug"] = True
            self._runner = web.AppRunner(
                app, access_log=None, shutdown_timeout=_SHUTDOWN, **options)
            await self._runner.setup()
            self._manager = self._runner.server
        assert self._manager is not None
        self._options = handler_options(self._manager)
        self.read_limit = self._options.get("read_bufsize", _READ_LIMIT)
        self.decompresses = self._options.get("auto_decompress", True)
        if debug:
            self._options["debug"] = True

    async def stop(self) -> None:
        """Run the shutdown and clean-up signals; connections are gone by now."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def connect(self, lane: HostingLane) -> AiohttpConnection:
        """Make aiohttp's side of a connection."""
        assert self._manager is not None
        connected = AiohttpConnection(self._manager, lane, self._options)
        connected.host = self
        return connected

    def parse(self, target: bytes) -> tuple[str, URL]:
        """The text and the URL of a target that has been checked; remembered in ``urls``."""
        path = target.decode()
        if target.startswith(b"/"):
            plain, fragment = path, ""
            if "#" in path:
                plain, _, fragment = path.partition("#")
            plain, _, query = plain.partition("?")
            url = URL.build(path=plain, query_string=query, fragment=fragment, encoded=True)
        else:
            authority, mark, query = path.partition("?")
            if authority.count("/") == 2:  # an empty path is / (RFC 9110 4.2.3)
                authority += "/"
            url = URL(authority + mark + query, encoded=True)
        # One with a query is most likely never met again.
        if len(target) <= _LONGEST and b"?" not in target:
            if len(self.urls) >= _REMEMBERED:
                self.urls.clear()
            self.urls[target] = path, url
        return path, url

    def decode(self, fields: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
        """The header fields as aiohttp's parser gives them."""
        names = self._names
        if compiled is not None:
            return compiled.texts(fields, names)  # type: ignore[no-any-return]
        try:
            return [(names[name], value.rstrip(b" \t").decode()) for name, value in fields]
        except UnicodeDecodeError:
            return [(names[name], value.rstrip(b" \t").decode("utf-8", "surrogateescape"))
                    for name, value in fields]
