"""GRPCServer: the services of one bind.

Rules:

- HTTP/2 is spoken by the plugin named http, found where the host finds it; what is said there of
  limits, deadlines, drain and log holds here.
- Services are registered before it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from apihour_grpc.grpc_call import Method
from apihour_grpc.grpcio_code import Registered
from apihour_grpc.grpclib_code import methods_of
from apihour_grpc.host import GRPCHost

__all__ = ["GRPCServer"]

# Options of the server of HTTP that mean something for calls: a body has no deadline but theirs.
_OPTIONS = frozenset({
    "access_log", "forwarded_allow_ips", "forwarded_headers", "header_timeout", "keepalive",
    "linger", "max_field", "max_fields", "max_head", "write_timeout",
})
_MAX_MESSAGE = 4 * 1024 * 1024  # as in every implementation of gRPC


class GRPCServer:
    """Serve gRPC: unary and streaming methods.

    `services` are those of grpclib's generated code (objects with ``__mapping__``). grpcio's
    generated code adds its own: ``add_GreeterServicer_to_server(Greeter(), server)``, whose methods
    are coroutines, as with ``grpc.aio``. `max_message` is the longest request, in bytes;
    `options` are those of ``HTTPServer`` that concern connections: ``access_log``, ``keepalive``,
    ``linger``, ``header_timeout``, ``write_timeout``, ``max_field``, ``max_fields``, ``max_head``,
    ``forwarded_allow_ips``, ``forwarded_headers``.

    Raises TypeError for what is no service or an unknown option, ValueError for an option out of
    range, ImportError when no plugin speaks HTTP; its start when HTTP/2 is not installed.
    """

    protocol = "grpc"
    alpn = ("h2",)

    def __init__(
        self, *services: Any, max_message: int = _MAX_MESSAGE, **options: Any,
    ) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise TypeError(f"GRPCServer(): option {name!r}: expected one of "
                                f"{', '.join(sorted(_OPTIONS | {'max_message'}))}")
        if type(max_message) is not int or max_message < 1:
            raise ValueError(f"option max_message={max_message!r}: expected bytes, at least 1")
        self._registered = Registered()
        self._mapped: dict[str, Method] = {}
        for service in services:
            if isinstance(service, type) or not callable(getattr(service, "__mapping__", None)):
                raise TypeError(f"GRPCServer({service!r}): expected a service of grpclib's "
                                "generated code; grpcio's is added by its add_…_to_server()")
            self._mapped |= methods_of(service)
        self._host = GRPCHost(self._find, max_message)
        self._http = _speaker(self._host, options)
        self.stream = self._http.stream
        """The protocol of one new connection, given the host's row for it."""

    # -- grpcio's generated code calls these

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Serve what these handlers know."""
        self._registered.add_generic(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Serve the methods of a service. Raises TypeError for one that is no coroutine."""
        self._registered.add_methods(service, handlers)

    def _find(self, path: str, fields: list[tuple[bytes, bytes]]) -> Method | None:
        return self._mapped.get(path) or self._registered.find(path, fields)

    # -- lifecycle

    async def start(self, context: Any = None) -> None:
        """Get ready. `context` is an ``apihour.plugins.ServerContext``; without: the defaults.

        Raises ImportError naming the extra when HTTP/2 cannot be spoken.
        """
        await self._http.start(context)

    async def drain(self, deadline: float) -> None:
        """Serve every call to its end; return when connections are gone.

        `deadline` is a time of ``loop.time()``: at it, return with what is left.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._http.drain(deadline)

    async def stop(self) -> None:
        """Cancel the calls and abort the connections that are left."""
        await self._http.stop()

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """Measure each method for `seconds`, as the server of HTTP does."""
        found: list[dict[str, Any]] = await self._http.measure(seconds)
        return found

    def statistics(self) -> Mapping[str, Any]:
        """Those of the server of HTTP, and ``calls`` under way."""
        return {**self._http.statistics(), "calls": len(self._host.tasks)}

    def __repr__(self) -> str:
        return f"GRPCServer({', '.join(sorted(self._mapped)) or '...'})"


def _speaker(host: GRPCHost, options: dict[str, Any]) -> Any:
    """The server of HTTP that connects `host`: of the plugin with that name."""
    found = list(entry_points(group="apihour.protocols", name="http"))
    if not found:
        raise ImportError("gRPC is served over HTTP/2: expected a plugin named http in the group "
                          "apihour.protocols")
    server = found[0].load().adapt(host, "stream")
    server.options = server.options.updated(
        {"body_timeout": float("inf"), "http2": True, **options})
    return server
