"""One HTTP request on a stream of HTTP/2: its answer goes into frames, no text of HTTP/1 is made.

Rules:

- What may be answered is what may be on HTTP/1, by the same checks: only how it is sent differs.
- Applications declare the same fields again and again: each is judged and encoded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apihour_asgi.answer_head import Declared, declare, status_line
from apihour_asgi.exchange import HTTPExchange
from apihour_asgi.framing import LENGTH, NOTHING, SENDING, STARTED, TRAILERS

__all__ = ["DeclaredFields", "StreamExchange"]

# Fields remembered, and the bytes of one at most: an application that has new ones costs no memory.
_REMEMBERED, _LONGEST = 512, 256
# What only means something to a connection of HTTP/1 (RFC 9113 8.2.2), beside what frames it.
_CONNECTION_ONLY = (b"upgrade", b"proxy-connection")

DeclaredField = tuple[bytes, Declared | None]
"""A field as it is sent, and what it says of the framing, if anything."""


class DeclaredFields(dict[tuple[bytes, bytes], DeclaredField]):
    """The fields that the application of a connection declares; `encode` makes one fit to send."""

    def __init__(self, encode: Callable[[bytes, bytes], bytes]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, field: tuple[bytes, bytes]) -> DeclaredField:
        entry = self.judge(*field)
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(field[0]) + len(field[1]) <= _LONGEST:
            self[field] = entry
        return entry

    def judge(self, name: bytes, value: bytes) -> DeclaredField:
        """Judge one field. Raises ValueError naming it where it cannot be sent."""
        declared = declare([(name, value)])
        name = name.lower()
        block = b""
        if declared.lines and name not in _CONNECTION_ONLY:
            block = self._encode(name, bytes(value).strip(b" \t"))
        is_plain = bool(declared.lines) and not declared.dated
        return block, None if is_plain else declared


class StreamExchange(HTTPExchange):
    """An exchange whose `lane` is a stream, which takes an answer in its parts."""

    __slots__ = ()

    def _start(self, message: Any) -> None:
        self.status = status = message["status"]
        status_line(status)  # raises for what is none
        self.declared = declared = Declared()
        known = self.hosted.declared
        parts = []
        for field in message.get("headers", ()):
            try:
                block, special = known[field]
            except TypeError:  # a list, or of something that is as bytes are
                block, special = known.judge(*field)
            parts.append(block)
            if special is not None:
                _note(declared, special)
        declared.lines = b"".join(parts)
        self.trailers: list[Any] | None = [] if message.get("trailers") else None
        self.head_only = self.message[0] == b"HEAD"
        self.state = STARTED

    def _body(self, body: Any, more: bool) -> None:
        lane = self.lane
        size = len(body)
        is_first = self.state == STARTED
        length = self.frame(size, more) if is_first else None
        framing = self.framing
        if framing == LENGTH:
            self.account(size, more)
            is_end = not self.due and self.trailers is None
        else:
            is_end = framing == NOTHING or (not more and self.trailers is None)
        if framing == NOTHING:
            body, size = b"", 0
        self.size += size
        self.state = SENDING
        if is_first:
            declared = self.declared
            lane.send_beginning(self.status, declared.lines, declared.dated, length, bytes(body),
                                is_end)
        elif size or is_end:
            lane.send_body(bytes(body), is_end)
        if not more:
            if self.trailers is None:
                self.finish()
            else:
                self.state = TRAILERS

    def _send_trailers(self, trailers: list[Any]) -> None:
        known = self.hosted.declared
        fields = [(name.lower(), bytes(value).strip(b" \t")) for name, value in trailers
                  if known.judge(name, value)[0]]
        if self.framing == NOTHING:
            return
        if fields:
            self.lane.send_trailers(fields)
        else:
            self.lane.send_body(b"", True)


def _note(declared: Declared, special: Declared) -> None:
    """Add what one field says of the framing to what the others do."""
    if special.length is not None:
        if declared.length is not None:
            raise ValueError(f"content-length {special.length}: expected one number")
        declared.length = special.length
    declared.chunked = declared.chunked or special.chunked
    declared.dated = declared.dated or special.dated
