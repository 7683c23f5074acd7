"""Endpoint: one declared function, where it is reached, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from apihour_http.errors import RouteError
from apihour_http.websocket.declared import WebSocketOptions

__all__ = ["Endpoint", "EndpointCall", "Handlers", "Standing"]

EndpointCall = Callable[[Any], Any]
"""What a request is given to, and what it answers or the coroutine of that."""
Handlers = dict[type[Exception], Callable[[Any, Any], Any]]
"""What answers instead of an endpoint, by what that raised."""


class Standing(Protocol):
    """A table of routes: what of it stands between a request and its endpoint."""

    middlewares: list[Callable[[Any, EndpointCall], Any]]
    exception_handlers: Handlers


class Endpoint:
    """One declared endpoint: the function, its method and path, and how it runs."""

    __slots__ = ("blocking", "call", "first", "function", "inline", "max_body", "measured",
                 "method", "name", "options", "path", "plain", "streams_body", "tables",
                 "unmeasured", "websocket", "websockets")

    def __init__(
        self, method: str, path: str, function: Callable[..., Any], blocking: bool,
        options: dict[str, Any], tables: tuple[Standing, ...] = (),
    ) -> None:
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with async __call__
        )
        if blocking and is_async:
            raise RouteError(f"route {method} {path}: blocking=True is for plain def endpoints")
        self.method = method
        self.path = path
        self.function = function
        self.call: Callable[[Any], Any] = function
        # Asked before `call`: what is known at once, without a task; None is what is not.
        self.first: Callable[[Any], Any] | None = None
        self.measured = 0  # meters that look at it, and what it is called by without them
        self.unmeasured: Any = None
        self.blocking = blocking
        self.plain = not is_async and not blocking
        self.inline = self.plain  # whether what is called for it is a plain function
        self.tables = tables  # those it is declared in, the outermost first
        self.name = f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
        self.options = options
        self.streams_body = bool(options.get("stream_body"))
        self.max_body = 0  # bytes, of one that streams; settled at start
        self.websocket: WebSocketOptions | None = None  # for those it is a WebSocket by
        self.websockets: Any = None  # who takes a request for one

    def within(self, prefix: str, table: Standing) -> Endpoint:
        """The same endpoint, included in `table` under `prefix`."""
        made = Endpoint(self.method, prefix + self.path, self.function, self.blocking,
                        self.options, (table, *self.tables))
        made.websocket = self.websocket
        return made

    def route(self) -> str:
        """What it is called: ``GET /users/{id}``; nothing where none was declared."""
        return "" if self.method == "*" else f"{self.method} {self.path}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.method} {self.path} {self.name}>"
