"""aiohttp's llhttp binding, driven like httptools: for machines without httptools.

Rules:

- Messages are taken one at a time where the binding can (``max_msg_queue_size``), so that
  a good request is answered although garbage follows it.
- Limits and checks are the lane's; the binding's own limits only stand behind them.
- Trailers are not seen. The binding would carry the last one over into the next message's
  header, so a chunked message is the last of its connection.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from apihour_http._aiohttp import HttpRequestParser

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
        options: dict[str, Any] = {
            "max_line_size": _LIMIT, "max_field_size": _LIMIT, "max_headers": _LIMIT,
            "auto_decompress": False,
        }
        if _one_at_a_time():
            options["max_msg_queue_size"] = 1
        reading: Any = _Reading()
        self._parser: Any = HttpRequestParser(
            reading, asyncio.get_running_loop(), _LIMIT, **options)
        self._protocol = protocol
        self._message: Any = None
        self._payload: Any = None

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
        message = self._message
        # The binding loses what follows an upgrade it does not know, and takes the last
        # trailer of a chunked message for a header of the next one (aiohttp 3.14.5).
        foreign = message.upgrade and message.headers.get("Upgrade", "").lower() != "websocket"
        return not (message.should_close or message.chunked or foreign)

    def should_upgrade(self) -> bool:
        """Whether the message at hand asks for another protocol."""
        return bool(self._message.upgrade)

    def feed_data(self, data: bytes) -> None:
        """Parse `data`. Raises ParseError, CallbackError or UpgradeError."""
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
                raise ParseError(str(failed).splitlines()[0] if str(failed) else "") from failed
            if upgraded:
                self._parser.set_upgraded(False)
                raise UpgradeError(len(data) - len(tail))
            if not completed:
                if self._payload is None and data and rest:
                    # Tells the protocol that a head is under way.
                    self._protocol.on_url(b"")
                return
            rest = b""

    def _head(self) -> None:
        message, protocol = self._message, self._protocol
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
            self._protocol.on_message_complete()
        except Exception as error:
            raise CallbackError from error
        return True


@functools.cache
def _one_at_a_time() -> bool:
    """Whether the binding takes the option; a compiled one has no signature to ask."""
    protocol: Any = _Reading()
    try:
        HttpRequestParser(protocol, asyncio.get_running_loop(), 1, max_msg_queue_size=1)
    except TypeError:
        return False
    return True
