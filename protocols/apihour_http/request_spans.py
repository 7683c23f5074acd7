"""Spans of requests, where the container has a tracer of OpenTelemetry.

Rules:

- This module, and OpenTelemetry's API with it, is imported by a server that is traced, only.
- A request's span goes on with the trace that its header ``traceparent`` names (W3C Trace Context).
- No query and no header but User-Agent is in it, and of an error its class: the log has the rest.
- Attributes are those of OpenTelemetry's semantic conventions for HTTP servers.
- It ends when the endpoint returns, or the application does: what is streamed behind an endpoint is
  not in it. What no route claims, and no application is there for, has none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from apihour_http.driven import Driven
from apihour_http.endpoint import Endpoint
from apihour_http.metering import status_of

__all__ = ["RequestSpans"]

_LONGEST = 1024  # characters of a path, or of what a client calls itself
_LONGEST_TRACE = 512  # of a header about the trace; what is longer would be told in the log
# No baggage (W3C) is taken: of that, too, the library's log would tell each fault of a client's.
_TRACE = TraceContextTextMapPropagator()


class RequestSpans:
    """Makes a span of each request of one server."""

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer
        self._open: dict[int, _Spanned] = {}

    def _begin(
        self, name: str, fields: Iterable[tuple[bytes, bytes]], told: dict[str, Any]
    ) -> Span:
        """A span; `fields` are the request's, `told` its attributes."""
        found = {key.lower(): value.decode("latin-1").strip() for key, value in fields}
        agent = found.get(b"user-agent", "")[:_LONGEST]
        told["user_agent.original"] = agent if agent.isprintable() else ascii(agent)[1:-1]
        carrier = {name: value for name in _TRACE.fields
                   if len(value := found.get(name.encode(), "")) <= _LONGEST_TRACE}
        span: Span = self._tracer.start_span(
            name, _TRACE.extract(carrier), kind=SpanKind.SERVER,
            attributes={key: value for key, value in told.items() if value})
        return span

    # -- endpoints

    def wrap(self, endpoints: Iterable[Endpoint]) -> None:
        """Have each of them called within a span."""
        for endpoint in endpoints:
            spanned = self._inline if endpoint.inline else self._later
            endpoint.call, endpoint.first = spanned(endpoint.call, endpoint), None

    def _of(self, request: Any, endpoint: Endpoint) -> Any:
        span = self._begin(
            endpoint.route() or request.method, request.raw_headers, {
                "http.request.method": request.method, "http.route": endpoint.path,
                "url.path": request.path_qs.partition("?")[0][:_LONGEST],
                "url.scheme": request.scheme,
                "client.address": request.remote})
        return use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False)

    def _inline(self, call: Any, endpoint: Endpoint) -> Any:
        @functools.wraps(call)
        def inline(request: Any) -> Any:
            with self._of(request, endpoint) as span:
                try:
                    result = call(request)
                except Exception as error:
                    _failed(span, error)
                    raise
                _answered(span, status_of(result))
                return result

        return inline

    def _later(self, call: Any, endpoint: Endpoint) -> Any:
        @functools.wraps(call)
        async def later(request: Any) -> Any:
            with self._of(request, endpoint) as span:
                try:
                    result = await call(request)
                except Exception as error:
                    _failed(span, error)
                    raise
                _answered(span, status_of(result))
                return result

        return later

    # -- the application's handlers

    def hosted(self, exchange: Any, serving: Any) -> Any:
        """The coroutine that serves an exchange of the application, within a span."""
        spanned = _Spanned(serving, lambda: self._begin_hosted(exchange))
        self._open[id(exchange)] = spanned
        spanned.forget = lambda: self._open.pop(id(exchange), None)
        return spanned

    def _begin_hosted(self, exchange: Any) -> Span:
        method, target = exchange.named()
        return self._begin(method, exchange.fields(), {
            "http.request.method": method, "client.address": exchange.client(),
            "url.path": target.partition("?")[0][:_LONGEST]})

    def hosted_done(self, exchange: Any, status: int, seconds: float) -> None:
        """The application has answered."""
        spanned = self._open.get(id(exchange))
        span = spanned.span if spanned is not None else None
        if span is None:
            return
        route = exchange.hosted.route()
        if route:
            span.update_name(route)
            span.set_attribute("http.route", route.partition(" ")[2])
        _answered(span, status)


class _Spanned(Driven):
    """A coroutine whose steps are within a span, which begins and ends with it."""

    __slots__ = ("_begin", "_token", "forget", "span")

    def __init__(self, inner: Any, begin: Callable[[], Span]) -> None:
        super().__init__(inner)
        self._begin = begin
        self.forget: Callable[[], Any] = lambda: None
        self.span: Span | None = None
        self._token: Any = None

    def _step(self, function: Any, *arguments: Any) -> Any:
        if self.span is None:
            self.span = self._begin()
            self._token = attach(set_span_in_context(self.span))
        try:
            return function(*arguments)
        except BaseException:  # its end: StopIteration too
            detach(self._token)
            self._end()
            raise

    def close(self) -> None:
        super().close()
        self._end()

    def _end(self) -> None:
        self.forget()
        if self.span is not None:
            self.span.end()


def _answered(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))


def _failed(span: Span, error: Exception) -> None:
    """An endpoint has raised: that may be an answer."""
    status = status_of(error, 500)
    _answered(span, status)
    if status >= 500:
        span.set_attribute("error.type", type(error).__name__)
