"""From a header block to a request: whose it is, its body, and who is told of either.

Rules:

- A head is judged when it is complete, before any of its body is kept; what it may be is what
  it may be on HTTP/1, by the same checks and limits.
- An endpoint starts when its message is complete; the application's handler, and an endpoint
  that takes its body as it comes, when the head is.
- A body that is not as long as Content-Length said is malformed (RFC 9113 8.1.1).
"""

from __future__ import annotations

from typing import Any

from apihour_http.connection.uploads import Upload, too_large
from apihour_http.errors import BadRequest, HTTPError
from apihour_http.head import CONTENT_LENGTH, EXPECT, FORWARDED, TE, Fields
from apihour_http.http2.answering import refuse, start
from apihour_http.http2.frame_bytes import PROTOCOL_ERROR, StreamBroken
from apihour_http.http2.request_head import RequestHead2
from apihour_http.request import Request

__all__ = ["begin", "end_body", "fail_body", "take_body"]

_new = Request.__new__
# What a field takes beside its name and value, as in HTTP/1.
_PUNCTUATION = 4


def begin(lane: Any, head: RequestHead2, ended: bool) -> None:
    """Begin the request with that head; `ended`: it has no body. Raises StreamBroken."""
    lane.head_only = head[0] == b"HEAD"
    try:
        _begin(lane, head, ended)
    except HTTPError as error:
        lane.request = lane.exchange = None
        refuse(lane, error, head[:2], lane.session.began)
    except StreamBroken:
        lane.request = lane.exchange = None
        raise


def _begin(lane: Any, head: RequestHead2, ended: bool) -> None:
    method, target, fields, size = head
    session = lane.session
    service = session.service
    if fields is not session.last_fields:
        session.last_seen = service.check_head(
            fields, size + _PUNCTUATION * len(fields) > service.large)
        session.last_fields = fields
    seen = session.last_seen
    methods, values = service.resolve(method, target)
    endpoint = methods.get(method)
    if endpoint is None and (methods or service.app_host is None):
        endpoint = service.table.stand_in(method, methods, fields)
    expects = bool(seen & (CONTENT_LENGTH | EXPECT)) and _announced(lane, fields, ended)
    if endpoint is None:
        _begin_hosted(lane, head, ended, seen)
        return
    request = _new(Request)
    request.lane = lane
    request.endpoint = endpoint
    request.verb, request.target, request.raw_headers = method, target, fields
    request.match_info = values.copy() if values else {}
    request.keep = request.modern = True
    request.plain = method != b"HEAD"
    request.body = b""
    request.arrived = lane.session.began
    if ended:
        start(lane, request)
    elif endpoint.streams_body:
        if lane.left > endpoint.max_body:
            raise too_large(endpoint.max_body)
        upload = Upload(request, expects)
        upload.left = lane.left
        _run_exchange(lane, upload, upload)
    else:
        if lane.left > service.options.max_body:
            raise too_large(service.options.max_body)
        lane.request = request
        if expects:
            lane.send_continue()


def _announced(lane: Any, fields: Fields, ended: bool) -> bool:
    """Note the length that is announced; whether a 100 Continue is waited for."""
    expects = False
    for name, value in fields:
        if name == b"content-length":
            lane.left = int(value)
            if ended and lane.left:
                raise StreamBroken(PROTOCOL_ERROR, "a body that was announced did not come")
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise BadRequest("Expect: expected 100-continue", 417)
            expects = not ended
    return expects


def _begin_hosted(lane: Any, head: RequestHead2, ended: bool, seen: int) -> None:
    method, target, fields, _ = head
    lane.hosted = hosted = lane.service.app_host.connect(lane)
    length = 0 if ended else lane.left or -1
    exchange = hosted.exchange(method, target, fields, True, True, length, False,
                               lane.session.began, bool(seen & TE), bool(seen & FORWARDED))
    if ended:
        exchange.complete()
    _run_exchange(lane, exchange, hosted)


def _run_exchange(lane: Any, exchange: Any, runner: Any) -> None:
    lane.exchange = lane.current = exchange
    serving = runner.serve(exchange)
    for watcher in lane.service.now.watchers:
        serving = watcher.hosted(exchange, serving)
    lane.run(serving, "http")


def take_body(lane: Any, data: bytes) -> None:
    """Take a piece of a request's body. Raises StreamBroken when there is more than announced."""
    size = len(data)
    lane.body_bytes += size
    if lane.left >= 0:
        lane.left -= size
        if lane.left < 0:
            raise StreamBroken(PROTOCOL_ERROR, "a body longer than its Content-Length")
    if lane.exchange is not None:
        lane.uncredited += size
        lane.exchange.feed(data)
        if not lane.is_payload_paused:
            lane.session.credit(lane, 0)
    elif lane.request is not None:
        lane.kept += size
        if lane.kept > lane.service.options.max_body:
            fail_body(lane, too_large(lane.service.options.max_body))
            return
        lane.parts.append(data)
        lane.session.keep(lane, size)
    else:
        lane.session.credit(lane, size)  # for nobody


def end_body(lane: Any) -> None:
    """The message is complete. Raises StreamBroken when there is less than announced."""
    lane.is_complete = True
    if lane.left > 0:
        raise StreamBroken(PROTOCOL_ERROR, "a body shorter than its Content-Length")
    request, exchange = lane.request, lane.exchange
    lane.request = lane.exchange = None
    if exchange is not None:
        exchange.complete()
    elif request is not None:
        request.body = b"".join(lane.parts)
        lane.parts.clear()
        start(lane, request)


def fail_body(lane: Any, error: BadRequest) -> None:
    """Refuse a request that is under way: its body is too long, or comes too slowly."""
    request, exchange = lane.request, lane.exchange
    lane.request = None
    lane.parts.clear()
    if exchange is not None:
        lane.exchange = None
        exchange.fail(error)
    elif request is not None:
        refuse(lane, error, (request.verb, request.target), request.arrived)
