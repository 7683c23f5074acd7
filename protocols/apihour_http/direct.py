"""The answers of direct endpoints that are not the usual ones, and their lines in the log."""

from __future__ import annotations

from collections.abc import Coroutine
from time import monotonic, time
from typing import Any

from apihour_http.response import Live

__all__ = ["answer_any", "check_slow", "log_request"]


def answer_any(lane: Any, request: Any, result: Any) -> Coroutine[Any, Any, None] | None:
    """The general case: any type, any version, HEAD, last on its connection.

    What is made while it is sent is not sent yet: the coroutine that does it is returned.
    """
    service = lane.service
    if lane.transport is None:
        return result.send(lane, request) if isinstance(result, Live) else None
    last = not request.keep or (service.now.closes and lane.is_last())
    connection = ""
    if last:
        connection = "Connection: close\r\n"
    elif not request.modern:
        connection = "Connection: keep-alive\r\n"
    head_only = request.verb == b"HEAD"
    render = service.renderer.render
    try:
        status, size, data, rest = render(result, connection, head_only)
    except Exception as error:
        if isinstance(result, Live):
            return result.send(lane, request)
        status, size, data, rest = render(service.failed(request, error), connection, head_only)
    lane.write(data)
    if rest:
        lane.write(rest)
    now = lane.idle_since = monotonic()
    seconds = now - request.arrived
    service.counters.answered(status, seconds)
    if seconds > service.slow:
        check_slow(lane, request, now)
    lane.conn.state = "idle"
    if service.log is not None:
        log_request(lane, request, status, 0 if head_only else size, now)
    if last:
        lane.close()
    return None


def check_slow(lane: Any, request: Any, now: float) -> None:
    """Note a request that took long, and name an endpoint that blocked the loop."""
    service = lane.service
    service.counters.note_slow(request.method, request.path_qs, now - request.arrived)
    began = max(lane.answers.began, request.arrived)
    if request.endpoint.inline and now - began > service.slow:
        service.warn_slow(request, now - began)


def log_request(lane: Any, request: Any, status: int, size: int, now: float) -> None:
    """Enter the request into the access log."""
    referer = agent = None
    for name, value in request.raw_headers:
        length = len(name)
        if length == 7 and name.lower() == b"referer":
            referer = value.decode("latin-1")
        elif length == 10 and name.lower() == b"user-agent":
            agent = value.decode("latin-1")
    lane.service.log.add((
        time(), lane.client(request.raw_headers), request.method, request.path_qs,
        f"HTTP/{lane.http_version}" if request.modern else "HTTP/1.0", status, size,
        now - request.arrived, referer, agent,
    ))
