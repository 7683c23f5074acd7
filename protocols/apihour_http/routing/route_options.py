"""The options that a route may have, checked where it is declared.

``status`` is that of plain data; ``timeout`` (seconds) and ``max_in_flight`` limit the calls
of an ``async def``; ``compress`` is for clients that take gzip; an endpoint with ``stream_body``
takes its body, of up to ``max_body`` bytes, as it comes; the others describe the route in the
OpenAPI document.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from apihour_http.errors import RouteError

__all__ = ["check_can_run", "check_options"]


def _is_status(value: Any) -> bool:
    return type(value) is int and 200 <= value <= 599


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "compress": (_is_truth, "true or false"),
    "description": (_is_text, "a text"),
    "include_in_schema": (_is_truth, "true or false"),
    "max_body": (_is_count, "bytes, from 1 on"),
    "max_in_flight": (_is_count, "a whole number from 1 on"),
    "status": (_is_status, "200 to 599"),
    "stream_body": (_is_truth, "true or false"),
    "summary": (_is_text, "a text"),
    "tags": (_is_texts, "a list of texts"),
    "timeout": (_is_seconds, "seconds above 0"),
}


def check_options(route: str, options: Mapping[str, Any]) -> None:
    """Raise RouteError naming an option of `route` that is unknown or out of range."""
    for name, value in options.items():
        known = _EXPECTED.get(name)
        if known is None:
            expected = ", ".join(sorted([*_EXPECTED, "blocking"]))
            raise RouteError(f"route {route}: option {name!r}: expected one of {expected}")
        is_good, expected = known
        if not is_good(value):
            raise RouteError(f"route {route}: {name}={ascii(value)[:100]}: expected {expected}")
    if "max_body" in options and not options.get("stream_body"):
        raise RouteError(f"route {route}: max_body={options['max_body']}: expected "
                         "stream_body=True beside it; a body that is collected first has the "
                         "server's max_body")


def check_can_run(route: str, function: Any, options: Mapping[str, Any]) -> None:
    """Raise RouteError for what a plain function cannot do: be ended, wait for its body."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None))  # noqa: B004 - an object with async __call__
    if "timeout" in options and not is_async:
        raise RouteError(f"route {route}: timeout={options['timeout']:g}: expected an async def, "
                         "a plain function cannot be interrupted")
    if options.get("stream_body") and not is_async:
        raise RouteError(f"route {route}: stream_body=True: expected an async def, a plain "
                         "function cannot wait for its body")
