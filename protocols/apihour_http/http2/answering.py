"""How an endpoint is run on a stream, and its plain answer sent: no byte of HTTP/1 is made.

Rule: what is not plain (a stream, events, a file) is sent by who sends it on HTTP/1.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from time import monotonic, time
from typing import Any

from apihour_http.direct import check_slow, log_request
from apihour_http.errors import HTTPError
from apihour_http.http2.fieldblocks import field, status_field
from apihour_http.response import Live, Renderer
from apihour_http.statistics import FAST

__all__ = ["Dated", "refuse", "reply", "start"]

# RFC 9110 15.3.5, 15.4.5: these never have a body; nor has a 205 (15.3.6).
_BODILESS = (204, 205, 304)
_JSON = status_field(200) + field(b"content-type", b"application/json")


class Dated:
    """The beginnings of heads, with the Date of this second (RFC 9110 6.6.1)."""

    __slots__ = ("_renderer", "_seen", "date", "json")

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._seen = ""
        self.date = self.json = b""

    def renew(self) -> None:
        """See whether it is another second."""
        seen = self._renderer.json_head
        if seen is not self._seen:
            self._seen = seen
            self.date = field(b"date", self._renderer.date.encode())
            self.json = _JSON + self.date


def start(lane: Any, request: Any) -> None:
    """Run the endpoint of a request that is whole."""
    endpoint = request.endpoint
    call = endpoint.call if endpoint.inline else endpoint.first
    result = None
    if call is not None:
        try:
            result = call(request)
        except Exception as error:
            result = lane.service.failed(request, error)
    if result is None and not endpoint.inline:
        lane.current = request
        lane.run(_run(lane, request), endpoint.name)
        return
    more = reply(lane, request, result)
    if more is not None:
        lane.current = request
        lane.run(_finish(lane, more), endpoint.name)


async def _run(lane: Any, request: Any) -> None:
    try:
        try:
            result = await request.endpoint.call(request)
        except Exception as error:
            result = lane.service.failed(request, error)
        except BaseException:
            lane.abort()  # somebody cancelled it
            raise
        more = reply(lane, request, result)
        if more is not None:
            await _finish(lane, more)
    finally:
        lane.current = None  # which leads here


async def _finish(lane: Any, more: Coroutine[Any, Any, None]) -> None:
    """Send what is made while it is sent."""
    try:
        await more
        lane.upload_done(None)
    finally:
        lane.current = None


def reply(lane: Any, request: Any, result: Any) -> Coroutine[Any, Any, None] | None:
    """Answer with `result`; what sends the rest of it is returned, if there is a rest."""
    if isinstance(result, Live):
        return result.send(lane, request)
    if lane.transport is None:
        return None
    status, size = _send(lane, request, result)
    now = lane.idle_since = monotonic()
    seconds = now - request.arrived
    service = lane.service
    counters = service.counters
    if status < 300 and seconds < FAST:
        counters.seconds += seconds
        counters.fast += 1
    else:
        counters.answered(status, seconds)
        if seconds > service.slow:
            check_slow(lane, request, now)
    if service.log is not None:
        log_request(lane, request, status, size, now)
    return None


def _send(lane: Any, request: Any, result: Any) -> tuple[int, int]:
    """Send head and body; status and the length of the body that was sent are returned."""
    dated = lane.session.dated
    dated.renew()
    if type(result) is dict and request.plain:
        try:
            text = lane.service.dumps(result)
        except Exception:
            text = None  # the general way tries harder, and says what is wrong
        if text is not None:
            body = text.encode() if isinstance(text, str) else text
            _send_whole(lane, dated.json, body, False)
            return 200, len(body)
    render = lane.service.renderer.parts
    try:
        status, fields, body = render(result)
        block = _head(status, fields, dated.date)
    except Exception as error:
        status, fields, body = render(lane.service.failed(request, error))
        block = _head(status, fields, dated.date)
    return status, _send_whole(lane, block, body, request.verb == b"HEAD", status in _BODILESS)


def _head(status: int, fields: Iterable[tuple[str, str]], date: bytes) -> bytes:
    """The block of a head. Raises ValueError for a field that would break the message."""
    block = [status_field(status), date]
    for name, value in fields:
        if not value.isprintable() and any(char in value for char in "\r\n\0"):
            raise ValueError(f"header {name}: {value!r}: control characters are not allowed")
        block.append(field(name.lower().encode("latin-1", "replace"),
                           value.encode("latin-1", "replace")))
    return b"".join(block)


def _send_whole(
    lane: Any, block: bytes, body: bytes, head_only: bool, is_bodiless: bool = False,
) -> int:
    """Send a head and all of its body; how much of that was sent is returned."""
    if is_bodiless:
        lane.send_block(block, True)
        return 0
    block += field(b"content-length", b"%d" % len(body))
    if head_only or not body:
        lane.send_block(block, True)
        return 0
    lane.send_whole(block, body)
    return len(body)


def refuse(lane: Any, error: HTTPError, named: tuple[bytes, bytes], arrived: float) -> None:
    """Answer a request that no endpoint sees; `named` are its method and target."""
    service = lane.service
    service.counters.refused += 1
    service.counters.classes[error.status // 100] += 1
    lane.session.dated.renew()
    status, fields, body = service.renderer.parts(error)
    size = _send_whole(lane, _head(status, fields, lane.session.dated.date), body,
                       named[0] == b"HEAD")
    if service.log is not None:
        method, target = (part.decode("latin-1") for part in named)
        service.log.add((time(), lane.remote(), method, target, "HTTP/2.0", status, size,
                         monotonic() - arrived, None, None))
