"""The full lane: an unmodified aiohttp application behind the connection's parser.

Rules:

- The application sees aiohttp's own request, payload and transport; only the parsing,
  the timeouts, the drain and the access log are the lane's.
- A body is streamed as it comes, and reading stops while the handler does not keep up.
- Start-up and clean-up are aiohttp's own runner's, signals and contexts included.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion10, HttpVersion11, web
from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

from apihour_http._aiohttp import (
    EMPTY_PAYLOAD,
    DeflateBuffer,
    Hosted,
    RawRequestMessage,
    RequestPayloadError,
    StreamReader,
    handler_options,
    subapplications,
)
from apihour_http.answers import CONTAINER
from apihour_http.errors import BadRequest

if TYPE_CHECKING:
    import logging

    from apihour_http.access import AccessLog
    from apihour_http.lane import Lane

__all__ = ["AppHost", "Exchange"]

# Header spellings kept as istr at most; a peer that invents names gains nothing.
_REMEMBERED = 512
# Bytes of a body kept for a handler that does not read, as in aiohttp.
_READ_LIMIT = 65536
_ENCODINGS = frozenset({"gzip", "deflate", "br", "zstd"})
_FOREVER = 3600.0


class Exchange:
    """One request of the full lane: its message, its body on the way, its fate."""

    __slots__ = (
        "_backlog", "_ended", "_more", "_sink", "arrived", "has_body", "hosted",
        "is_complete", "keep", "lane", "message", "payload", "websocket",
    )

    def __init__(
        self, hosted: Any, message: Any, payload: Any, arrived: float, keep: bool,
    ) -> None:
        self.hosted = hosted
        self.lane: Lane = hosted.lane
        self.message = message
        self.payload = payload
        self.arrived = arrived
        self.keep = keep
        self.has_body = payload is not EMPTY_PAYLOAD
        self.is_complete = False
        self.websocket = False
        self._sink = payload
        self._backlog: list[bytes] = []
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
        if self._sink is not None and piece:
            self._backlog.append(piece)
            self.pump()

    def pump(self) -> None:
        """Move what is held into the payload, until that is full."""
        sink = self._sink
        if sink is None:
            return
        try:
            while (self._more or self._backlog) and not self.hosted._reading_paused:
                piece = b"" if self._more else self._backlog.pop(0)
                self._more = bool(sink.feed_data(piece, len(piece)))
            if self._ended and not self._more and not self._backlog:
                self._sink = None
                sink.feed_eof()
        except Exception as error:
            self._fail(RequestPayloadError(str(error)))

    def complete(self) -> None:
        """The message has ended."""
        self.is_complete = True
        self._ended = True
        if self.has_body:
            self.pump()

    def fail(self, error: Exception) -> None:
        """The message is broken: whoever reads it is told."""
        self._fail(RequestPayloadError(str(error)))

    def _fail(self, error: Exception) -> None:
        self._sink = None
        self._backlog.clear()
        self._more = False
        self.keep = False
        if self.has_body:
            self.payload.set_exception(error)

    def log(self, log: AccessLog, status: int, size: int, now: float) -> None:
        """Enter the exchange into the access log."""
        message = self.message
        headers = message.headers
        log.add((
            time(), self.lane.remote(), message.method, message.path,
            f"HTTP/{message.version.major}.{message.version.minor}", status, size,
            now - self.arrived, headers.get("Referer"), headers.get("User-Agent"),
        ))


class Connected(Hosted):
    """A :class:`Hosted` that makes exchanges out of parsed heads."""

    __slots__ = ("host",)
    host: AppHost

    def exchange(
        self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], keep: bool,
        modern: bool, length: int, upgrade: bool, arrived: float,
    ) -> Exchange:
        """Build aiohttp's message and payload; `length` is -1 for a chunked body."""
        headers = CIMultiDictProxy(CIMultiDict(self.host.decode(fields)))
        encoding = None
        if length and "Content-Encoding" in headers:
            encoding = headers["Content-Encoding"].lower()
            encoding = encoding if encoding in _ENCODINGS else None
        path = target.decode()
        message = RawRequestMessage(
            method.decode(), path, HttpVersion11 if modern else HttpVersion10, headers,
            tuple(fields), not keep, encoding, upgrade, length < 0, parse_url(path),
        )
        payload: Any = EMPTY_PAYLOAD
        if length:
            payload = StreamReader(self, _READ_LIMIT, loop=self._loop)
        exchange = Exchange(self, message, payload, arrived, keep)
        if encoding is not None:
            exchange.decompress(encoding)
        if upgrade and headers.get("Upgrade", "").lower() == "websocket":
            exchange.websocket = True
        return exchange


def parse_url(path: str) -> URL:
    """The URL of a request target that has been checked already."""
    if path[0] == "/":
        path, _, query = path.partition("?")
        return URL.build(path=path, query_string=query, encoded=True)
    return URL(path, encoded=True)


class AppHost:
    """Runs one application in this loop and connects lanes to it."""

    def __init__(self, app: web.Application | web.Server) -> None:
        self._app = app
        self._names: dict[bytes, str] = {}
        self._runner: web.AppRunner | None = None
        self._manager: web.Server | None = None
        self._options: dict[str, Any] = {}

    async def start(self, container: Any, logger: logging.Logger, debug: bool) -> None:
        """Run the start-up signals and contexts; the application is frozen after it."""
        app = self._app
        if isinstance(app, web.Server):
            self._manager = app
        else:
            for application in subapplications(app):
                if not application.frozen:
                    application[CONTAINER] = container
            options: dict[str, Any] = {"logger": logger}
            if debug:
                options["debug"] = True
            self._runner = web.AppRunner(
                app, access_log=None, shutdown_timeout=_FOREVER, **options)
            await self._runner.setup()
            self._manager = self._runner.server
        assert self._manager is not None
        self._options = handler_options(self._manager)
        if debug:
            self._options["debug"] = True

    async def stop(self) -> None:
        """Run the shutdown and clean-up signals; connections are gone by now."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def connect(self, lane: Lane) -> Connected:
        """Make aiohttp's side of a connection."""
        assert self._manager is not None
        connected = Connected(self._manager, lane, self._options)
        connected.host = self
        return connected

    def decode(self, fields: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
        """The header fields as aiohttp's parser gives them."""
        names = self._names
        pairs = []
        for name, value in fields:
            key = names.get(name)
            if key is None:
                if len(names) >= _REMEMBERED:
                    names.clear()
                key = names[name] = istr(name.decode("ascii"))
            pairs.append((key, value.rstrip(b" \t").decode("utf-8", "surrogateescape")))
        return pairs
