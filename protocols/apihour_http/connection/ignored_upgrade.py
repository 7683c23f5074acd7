"""A body behind an upgrade that is ignored (RFC 9110 7.8): httptools would leave it unparsed.

Rules:

- Where an upgrade is asked for, httptools takes the body for the other protocol. So another
  parser is told the same framing once more, and goes on from there: the boundaries stay
  llhttp's to decide.
- Of the head told to it nothing is seen: the first one was judged already.
"""

from __future__ import annotations

from typing import Any

__all__ = ["parse_on"]

_HEAD = b"POST / HTTP/1.1\r\nHost: _\r\n%s\r\n\r\n"


class _Continued:
    """The callbacks of a parser whose first head is ours; all else is the intake's."""

    def __init__(self, intake: Any) -> None:
        self._intake = intake
        self._is_ours = True
        self.on_body = intake.on_body
        self.on_message_begin = intake.on_message_begin
        self.on_message_complete = intake.on_message_complete

    def on_url(self, url: bytes) -> None:
        """A part of a target."""
        if not self._is_ours:
            self._intake.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer."""
        if not self._is_ours:
            self._intake.on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of a head: ours, or that of a later request."""
        if self._is_ours:
            self._is_ours = False
        else:
            self._intake.on_headers_complete()


def parse_on(intake: Any, length: int) -> None:
    """Give `intake` a parser that expects a body of `length` bytes, chunked when below 0."""
    framing = b"Content-Length: %d" % length if length >= 0 else b"Transfer-Encoding: chunked"
    intake.parser = intake.service.binding.make(_Continued(intake))
    intake.feed = intake.parser.feed_data
    intake.feed(_HEAD % framing)
