"""The body of a message that an intake reads: what announces it, its size and its pace.

Rule: a direct endpoint's body is kept until it is complete, within the limit; that of an
application's exchange is handed on as it comes.
"""

from __future__ import annotations

from typing import Any

from apihour_http.errors import BadRequest
from apihour_http.head import CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, Fields
from apihour_http.request import Request

__all__ = ["begin_body", "deliver", "follow_body"]


def begin_body(intake: Any, fields: Fields, seen: int, modern: bool) -> int:
    """Look at what announces a body; return its length, -1 when chunked. Raises BadRequest."""
    length = 0
    is_direct = type(intake.pending) is Request
    if fields is intake.sized_fields:
        length = intake.sized
    elif seen & (CONTENT_LENGTH | EXPECT):
        length, expects = _announced(fields, modern)
        intake.expecting = expects and is_direct
        if not seen & EXPECT:
            intake.sized_fields, intake.sized = fields, length
    if seen & TRANSFER_ENCODING:
        if not modern:
            raise BadRequest("Transfer-Encoding in HTTP/1.0")
        length = -1
    if is_direct and length > intake.service.options.max_body:
        intake.lane.discard_up_to(length)
        raise _too_large(intake)
    intake.measure_body(intake.arrived)
    intake.unseen = 0
    if intake.expecting:
        if not length:
            intake.expecting = False
        elif intake.lane.ready:
            intake.send_continue()
    return length


def _announced(fields: Fields, modern: bool) -> tuple[int, bool]:
    """The Content-Length among `fields`, and whether a 100 Continue is waited for."""
    length, expects = 0, False
    for name, value in fields:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            length = int(value)
        elif size == 6 and modern and name.lower() == b"expect":
            if value.strip(b" \t").lower() != b"100-continue":
                raise BadRequest("Expect: expected 100-continue", 417)
            expects = True
    return length, expects


def deliver(intake: Any, pending: Any) -> None:
    """Hand on what the parser collected of a body since the last time."""
    chunks = intake.chunks
    piece = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    chunks.clear()
    intake.body_bytes += len(piece)
    if type(pending) is not Request:
        pending.feed(piece)
        return
    intake.expecting = False
    if intake.body_bytes > intake.service.options.max_body:
        raise _too_large(intake)
    intake.parts.append(piece)


def follow_body(intake: Any, size: int) -> None:
    """Hand on what came; what is no body (chunk extensions, trailers) must not be endless."""
    if intake.chunks:
        intake.unseen = 0
        deliver(intake, intake.pending)
        return
    intake.unseen += size
    options = intake.service.options
    if intake.unseen > options.max_head or len(intake.fields) > options.max_fields:
        raise BadRequest("too much that is no body within it", 431)


def _too_large(intake: Any) -> BadRequest:
    return BadRequest(f"a body over {intake.service.options.max_body} bytes", 413)
