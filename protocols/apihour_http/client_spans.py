"""Spans of the requests that :class:`HTTPClient` makes, where the container has a tracer.

Rules:

- This module, and OpenTelemetry's API with it, is imported by a client that is traced, only.
- The service that is asked is told the trace by ``traceparent`` (W3C Trace Context).
- No query, no password of a URL and no header is in a span, and of an error its class.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

__all__ = ["spanned_requests"]

_LONGEST = 1024  # characters of a URL


def spanned_requests(library: Any, tracer: Any) -> Any:
    """What `library` (aiohttp) calls around each request, to make its span."""
    found = library.TraceConfig()

    async def begin(session: Any, request: Any, told: Any) -> None:
        url = told.url.with_user(None).with_query(None).with_fragment(None)
        request.span = tracer.start_span(told.method, kind=SpanKind.CLIENT, attributes={
            "http.request.method": told.method, "url.full": str(url)[:_LONGEST],
            "server.address": url.host or "", "server.port": url.port or 0})
        inject(told.headers, set_span_in_context(request.span))

    async def end(session: Any, request: Any, told: Any) -> None:
        status = told.response.status
        request.span.set_attribute("http.response.status_code", status)
        if status >= 400:  # to a client they are errors (semantic conventions)
            request.span.set_attribute("error.type", str(status))
            request.span.set_status(Status(StatusCode.ERROR))
        request.span.end()

    async def fail(session: Any, request: Any, told: Any) -> None:
        request.span.set_attribute("error.type", type(told.exception).__name__)
        if isinstance(told.exception, Exception):  # one that is cancelled has not failed
            request.span.set_status(Status(StatusCode.ERROR))
        request.span.end()

    found.on_request_start.append(begin)
    found.on_request_end.append(end)
    found.on_request_exception.append(fail)
    return found
