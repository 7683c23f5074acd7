"""What stands between a request and its endpoint: middlewares, and handlers of exceptions.

Rules:

- Both belong to a table of routes, and hold for what is included in it; those of an outer
  table stand outside.
- ``call(request)`` gives a middleware an answer (``status``, ``headers``), whatever the endpoint
  returned: data and raised HTTPErrors become a Response, aiohttp's are one. Other exceptions
  pass through, unless a handler takes them first.
- The handler of the nearest class takes an exception (as ``except`` would), of the inner table
  where two name the same. What it raises itself counts as raised in its place.
- A client that leaves is no failure: handlers of broader classes do not hear of it.
- All is decided at start: an endpoint with neither is called as it would be without them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from apihour_http.endpoint import EndpointCall, Handlers, Standing
from apihour_http.errors import ClientGone, HTTPError, RouteError
from apihour_http.response import Live, Response, is_aiohttp, refuse_tuple
from apihour_http.websocket.socket import WebSocketDisconnect

__all__ = ["check_handler", "check_middleware", "stand_between"]

# What is no failure: taken by a handler of its own class only.
_ENDS = (ClientGone, WebSocketDisconnect)


def stand_between(
    call: EndpointCall, inline: bool, tables: Iterable[Standing]
) -> tuple[EndpointCall, bool]:
    """Put what `tables` (the outermost first) declare around an endpoint's `call`.

    `inline` is whether that is a plain function; so is the second of what is returned.
    """
    middlewares: list[Callable[[Any, EndpointCall], Any]] = []
    handlers: Handlers = {}
    for table in tables:
        middlewares += table.middlewares
        handlers.update(table.exception_handlers)
    for middleware in reversed(middlewares):
        call = _around(middleware, _answering(call, inline, handlers))
        inline = False
    if not handlers:
        return call, inline
    if inline and not any(map(inspect.iscoroutinefunction, handlers.values())):
        return _handled_inline(call, handlers), True
    return _handled(call, inline, handlers), False


def _around(middleware: Callable[[Any, EndpointCall], Any], call: EndpointCall) -> EndpointCall:
    @functools.wraps(call)
    def through(request: Any) -> Any:
        return middleware(request, call)

    return through


def _answering(call: EndpointCall, inline: bool, handlers: Handlers) -> EndpointCall:
    """What a middleware calls."""
    handled = _handled(call, inline, handlers)

    @functools.wraps(call)
    async def answering(request: Any) -> Any:
        try:
            return _as_answer(await handled(request))
        except Exception as error:
            if isinstance(error, HTTPError) or is_aiohttp(error):
                return _as_answer(error)
            raise

    return answering


def _handled(call: EndpointCall, inline: bool, handlers: Handlers) -> EndpointCall:
    @functools.wraps(call)
    async def handled(request: Any) -> Any:
        try:
            result = call(request)
            return result if inline else await result
        except Exception as error:
            handler = _handler_of(error, handlers)
            if handler is None:
                raise
            result = handler(request, error)
            return _answer_of(handler, await result if inspect.isawaitable(result) else result)

    return handled


def _handled_inline(call: EndpointCall, handlers: Handlers) -> EndpointCall:
    @functools.wraps(call)
    def handled(request: Any) -> Any:
        try:
            return call(request)
        except Exception as error:
            handler = _handler_of(error, handlers)
            if handler is None:
                raise
            return _answer_of(handler, handler(request, error))

    return handled


def _handler_of(error: Exception, handlers: Handlers) -> Callable[[Any, Any], Any] | None:
    for kind in type(error).__mro__:
        if kind in handlers:
            return handlers[kind]
        if kind in _ENDS:
            return None
    return None


def _answer_of(handler: Callable[..., Any], result: Any) -> Any:
    """What a handler returned: data would be answered with 200, which is no error."""
    if _is_answer(result) or isinstance(result, HTTPError):
        return result
    raise TypeError(
        f"the exception handler {_name(handler)} returned {ascii(result)[:100]}: expected "
        "Response(status, body=data) or an HTTPError")


def _as_answer(result: Any) -> Any:
    """`result` of an endpoint as an answer with a status and headers."""
    if _is_answer(result):
        return result
    if isinstance(result, HTTPError):
        headers = [*result.headers.items(), ("Content-Type", "application/problem+json")]
        return Response(result.status, headers, result.document())
    refuse_tuple(result)
    return Response(204 if result is None else 200, None, result)


def _is_answer(result: Any) -> bool:
    return isinstance(result, Response | Live) or is_aiohttp(result)


# -- what is refused where it is declared


def check_middleware(function: Any) -> None:
    """Raise RouteError unless `function` is an ``async def (request, call)``."""
    if not _is_async(function) or not _takes_two(function):
        raise RouteError(f"middleware {_name(function)}: expected async def "
                         "middleware(request, call)")


def check_handler(kind: Any, function: Any) -> None:
    """Raise RouteError unless `function` takes a request and an exception of class `kind`."""
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        raise RouteError(f"exception_handler({kind!a}): expected a class of exceptions")
    if not callable(function) or not _takes_two(function):
        raise RouteError(f"the exception handler {_name(function)}: expected a function "
                         "(request, error)")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None))  # noqa: B004 - an object with async __call__


def _takes_two(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or ascii(function))
