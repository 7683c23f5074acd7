"""aiohttp's llhttp binding, driven like httptools: for machines without httptools.

Rules:

- Messages are taken one at a time where the binding can (``max_msg_queue_size``), so that
  a good request is answered although garbage follows it.
- Limits and checks are the lane's; the binding's own limits only stand behind them.
- It is fed up to the end of a message at most, so nothing that follows is lost in it, neither
  with the upgrade that it ignores nor with the parser: see ``pieces``.
- The binding keeps trailers to itself, and carries the last one over into the next message's
  header: they are read from what it was fed, and another parser takes the next message.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from apihour_http.aiohttp.private import EMPTY_PAYLOAD, HttpRequestParser
from apihour_http.connection.pieces import EMPTY_LINE, Pieces, trailers

__all__ = ["CallbackError", "EventParser", "ParseError", "UpgradeError"]

# Above every limit of a lane, which judges with better words.
_LIMIT = 1 << 20


class ParseError(Exception):
    """The bytes are not HTTP."""


class CallbackError(Exception):
    """A callback raised; its exception is the ``__context__``."""


class UpgradeError(Exception):
    """An upgrade request is complete; the argument is the offset of what follows it."""


class _Reading:
    """What the binding wants to know of a protocol: the lane never pauses it."""

    _reading_paused = False

    def pause_reading(self) -> None:
        """Never needed: every payload is emptied after every feed."""

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        """Never needed either."""


class EventParser:
    """Calls ``on_url`` to ``on_message_complete`` of a protocol as httptools would."""

    def __init__(self, protocol: Any) -> None:
        self._parser: Any = _make()
        self._protocol = protocol
        self._message: Any = None
        self._payload: Any = None
        self._pieces = Pieces()
        self._line_has_ended = False
        self.line = 0
        """Bytes of the request line that is under way."""

    def get_method(self) -> bytes:
        """The method of the message at hand."""
        method: str = self._message.method
        return method.encode()

    def get_http_version(self) -> str:
        """The version of the message at hand, as ``1.1``."""
        version = self._message.version
        return f"{version.major}.{version.minor}"

    def should_keep_alive(self) -> bool:
        """Whether the message at hand lets the connection stay open."""
        return not self._message.should_close

    def should_upgrade(self) -> bool:
        """Whether the message at hand asks for another protocol."""
        return bool(self._message.upgrade)

    def feed_data(self, data: bytes) -> None:
        """Parse `data`. Raises ParseError, CallbackError or UpgradeError."""
        pieces, size, done = self._pieces, len(data), 0
        while done < size:
            end = 0
            if pieces.is_fresh:
                self._protocol.on_message_begin()
                end = data.find(EMPTY_LINE, done) + 4
            if end < 4:
                piece = pieces.next(data, done)
            else:  # a head as a whole, the usual case
                piece = data if end - done == size else data[done:end]
            try:
                self._feed(piece)
            except UpgradeError as error:
                raise UpgradeError(done + error.args[0]) from None
            done += len(piece)

    def _feed(self, data: bytes) -> None:
        """Parse a piece: it goes to the end of one message at most."""
        rest = data
        while True:
            failed: Exception | None = None
            messages: Any = ()
            upgraded, tail = False, b""
            try:
                messages, upgraded, tail = self._parser.feed_data(rest)
            except Exception as error:
                failed = error
            completed = self._drain()
            for self._message, self._payload in messages:
                self._head()
                completed = self._drain() or completed
            if failed is not None:
                said = str(getattr(failed, "message", "")) or str(failed)
                # What follows the empty line shows the peer's bytes.
                raise ParseError(" ".join(said.partition("\n\n")[0].split())) from failed
            if upgraded:
                self._parser.set_upgraded(False)
                raise UpgradeError(len(data) - len(tail))
            if not completed:
                if self._payload is None and data and rest:
                    self._under_way(data)
                return
            if not self._message.upgrade:
                return  # the piece has ended with its message
            rest = b""

    def _under_way(self, data: bytes) -> None:
        """Tell the protocol that a head is under way."""
        if not self._line_has_ended:
            line, end, _ = data.partition(b"\n")
            self.line += len(line)
            self._line_has_ended = bool(end and self.line > 1)
        self._protocol.on_url(b"")

    def _head(self) -> None:
        message, protocol = self._message, self._protocol
        if self._payload is not EMPTY_PAYLOAD or not self._pieces.is_fresh:
            self.line, self._line_has_ended = 0, False
            self._pieces.begin(message.chunked, message.headers.get("Content-Length", ""))
        try:
            protocol.on_url(message.path.encode("utf-8", "surrogateescape"))
            for name, value in message.raw_headers:
                protocol.on_header(name, value)
            protocol.on_headers_complete()
        except Exception as error:
            raise CallbackError from error

    def _drain(self) -> bool:
        """Hand on what the payload holds; whether the message ended with it."""
        payload = self._payload
        if payload is None:
            return False
        body = payload.read_nowait()
        if body:
            self._protocol.on_body(body)
        if not payload.is_eof():
            return False
        self._payload = None
        if hasattr(self._parser, "message_consumed"):
            self._parser.message_consumed()
        try:
            if self._message.chunked:
                self._trailers()
            self._protocol.on_message_complete()
        except Exception as error:
            raise CallbackError from error
        return True

    def _trailers(self) -> None:
        """Hand on the trailers of the message that is complete, as httptools would."""
        found = trailers(self._pieces.end())
        for name, value in found:
            self._protocol.on_header(name, value)
        if found:
            self._parser = _make()


def _make() -> Any:
    options: dict[str, Any] = {
        "max_line_size": _LIMIT, "max_field_size": _LIMIT, "max_headers": _LIMIT,
        "auto_decompress": False,
    }
    if _one_at_a_time():
        options["max_msg_queue_size"] = 1
    reading: Any = _Reading()
    return HttpRequestParser(reading, asyncio.get_running_loop(), _LIMIT, **options)


@functools.cache
def _one_at_a_time() -> bool:
    """Whether the binding takes the option; a compiled one has no signature to ask."""
    protocol: Any = _Reading()
    try:
        HttpRequestParser(protocol, asyncio.get_running_loop(), 1, max_msg_queue_size=1)
    except TypeError:
        return False
    return True
