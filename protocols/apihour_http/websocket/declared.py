"""A WebSocket route where it is declared: its options, and the endpoint that it becomes.

Rule: it is an endpoint for GET like any other, middlewares and all; the innermost call finds the
WebSocket with its request, and without one (a plain GET) answers 426 (RFC 9110 15.5.22).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apihour_http.errors import HTTPError, RouteError

__all__ = ["KEY", "WebSocketOptions", "as_endpoint", "options_of"]

KEY = object()
"""Where a request keeps its WebSocket."""


@dataclass(frozen=True)
class WebSocketOptions:
    """What a WebSocket route may be told; sizes in bytes, times in seconds."""

    max_size: int = 1 << 20
    """The longest message; a longer one ends the WebSocket with 1009."""
    ping_interval: float = 20.0
    """A client that is silent for two of these is gone; 0 for no pings."""
    subprotocols: tuple[str, ...] = ()
    """Those that are spoken, the preferred first."""


def options_of(route: str, options: Mapping[str, Any]) -> WebSocketOptions:
    """The options of `route`. Raises RouteError for one that is unknown or out of range."""
    for name, value in options.items():
        if name not in WebSocketOptions.__dataclass_fields__:
            expected = ", ".join(sorted([*WebSocketOptions.__dataclass_fields__, "max_in_flight"]))
            raise RouteError(f"route {route}: option {name!r}: expected one of {expected}")
        if name == "max_size" and (type(value) is not int or value < 1):
            raise RouteError(f"route {route}: max_size={value!r}: expected bytes, from 1 on")
        if name == "ping_interval" and (
            type(value) not in (int, float) or not 0 <= value < float("inf")
        ):
            raise RouteError(f"route {route}: ping_interval={value!r}: expected seconds, 0 for "
                             "none")
        if name == "subprotocols" and (
            isinstance(value, str) or not all(isinstance(one, str) for one in value)
        ):
            raise RouteError(f"route {route}: subprotocols={value!r}: expected a list of texts")
    told = dict(options)
    told["subprotocols"] = tuple(options.get("subprotocols", ()))
    return WebSocketOptions(**told)


def as_endpoint(route: str, function: Callable[..., Any]) -> Callable[[Any], Any]:
    """The endpoint that calls `function` with the WebSocket of its request. Raises RouteError."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        inspect.signature(function).bind(None, None)
        is_good = inspect.iscoroutinefunction(function)
    except (TypeError, ValueError):
        is_good = False
    if not is_good:
        raise RouteError(f"route {route}: {name}: expected async def "
                         f"{name.rpartition('.')[2]}(request, websocket)")

    @functools.wraps(function)
    async def endpoint(request: Any) -> Any:
        websocket = request.get(KEY)
        if websocket is None:
            raise HTTPError(426, "expected a WebSocket", headers={"Upgrade": "websocket"})
        return await function(request, websocket)

    # It takes one argument, whoever looks at its signature.
    del endpoint.__wrapped__
    endpoint.__annotations__ = {}
    return endpoint
