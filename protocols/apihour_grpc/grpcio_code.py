"""Services by grpcio's generated code: ``add_…Servicer_to_server(servicer, server)``.

Rules:

- What is registered is called by its public shape: a handler of ``grpc.RpcMethodHandler`` with its
  serialisers; methods are coroutines, as with ``grpc.aio``.
- The context has what ``grpc.aio.ServicerContext`` has; what it cannot do says so.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, NoReturn

from apihour_grpc.grpc_call import GRPCCall, Method
from apihour_grpc.status import INTERNAL, CallEnded, Pairs, number_of

__all__ = ["CallContext", "method_of"]


def method_of(handler: Any, path: str) -> Method:
    """What serves a ``grpc.RpcMethodHandler``. Raises TypeError for a plain function."""
    for takes_stream in (False, True):
        for gives_stream in (False, True):
            if (handler.request_streaming, handler.response_streaming) == (
                    takes_stream, gives_stream):
                kind = f"{_WORDS[takes_stream]}_{_WORDS[gives_stream]}"
                function = getattr(handler, kind)
                if not _is_async(function):
                    raise TypeError(f"method {path}: {function!r}: expected async def, as with "
                                    "grpc.aio; a plain function would block the loop")
                return _served(function, handler, takes_stream, gives_stream)
    raise TypeError(f"method {path}: {handler!r}: expected a grpc.RpcMethodHandler")


_WORDS = {False: "unary", True: "stream"}


def _is_async(function: Any) -> bool:
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def _served(
    function: Any, handler: Any, takes_stream: bool, gives_stream: bool,
) -> Method:
    load: Callable[[bytes], Any] = handler.request_deserializer or bytes
    dump: Callable[[Any], bytes] = handler.response_serializer or bytes

    async def serve(call: GRPCCall) -> None:
        context = CallContext(call, load, dump)
        request = _requests(context) if takes_stream else await _request(context)
        result = function(request, context)
        if hasattr(result, "__aiter__"):
            async for message in result:
                await context.write(message)
        else:
            reply = await result
            if not gives_stream and not call.code:
                await context.write(reply)

    return serve


async def _request(context: CallContext) -> Any:
    """The one request of a call."""
    async for request in _requests(context):
        return request
    raise CallEnded(INTERNAL, "expected one message, and there was none")


async def _requests(context: CallContext) -> AsyncIterator[Any]:
    end = context.end_of_file
    while (request := await context.read()) is not end:
        yield request


class EndOfFile:
    """What :meth:`CallContext.read` returns behind the last message where grpcio is not there."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "EOF"


_END = EndOfFile()


class CallContext:
    """What a method is told of its call, as by ``grpc.aio.ServicerContext``."""

    def __init__(self, call: GRPCCall, load: Callable[[bytes], Any],
                 dump: Callable[[Any], bytes]) -> None:
        self._call = call
        self._load = load
        self._dump = dump
        self.end_of_file: Any = getattr(sys.modules.get("grpc.aio"), "EOF", _END)

    @property
    def container(self) -> Any:
        """The worker's container."""
        return self._call.hosted.host.container

    async def read(self) -> Any:
        """The next request; ``grpc.aio.EOF`` behind the last."""
        data = await self._call.receive()
        if data is None:
            return self.end_of_file
        try:
            return self._load(data)
        except Exception as error:
            raise CallEnded(INTERNAL, "a request that cannot be read") from error

    async def write(self, message: Any) -> None:
        """Send a response."""
        await self._call.send(self._dump(message))

    async def send_initial_metadata(self, metadata: Pairs) -> None:
        """Send the initial metadata. Raises RuntimeError when they were sent."""
        self._call.begin(metadata)

    def set_trailing_metadata(self, metadata: Pairs) -> None:
        """Send these with the status."""
        self._call.trailing = tuple(metadata)

    def trailing_metadata(self) -> Pairs:
        """Those that were set."""
        return self._call.trailing

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """What the client sent."""
        return tuple(self._call.metadata)

    def set_code(self, code: Any) -> None:
        """End with this status."""
        self._call.code = number_of(code)

    def code(self) -> int:
        """The number of the status that was set."""
        return self._call.code

    def set_details(self, details: str) -> None:
        """Say this with the status."""
        self._call.why = details

    def details(self) -> str:
        """What was set to be said with the status."""
        return self._call.why

    async def abort(
        self, code: Any, details: str = "", trailing_metadata: Pairs = (),
    ) -> NoReturn:
        """End the call with an error."""
        number = number_of(code)
        if not number:
            raise ValueError("abort(): expected another status than OK")
        raise CallEnded(number, details, trailing_metadata or self._call.trailing)

    async def abort_with_status(self, status: Any) -> NoReturn:
        """End the call with a ``grpc.Status``."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, None without one."""
        return self._call.seconds_left()

    def peer(self) -> str:
        """The client's address, as ``ipv4:127.0.0.1:50051``."""
        name = self._call.lane.get_extra_info("peername")
        if not isinstance(name, tuple):
            return "unix:"
        family = "ipv6" if ":" in str(name[0]) else "ipv4"
        host = f"[{name[0]}]" if family == "ipv6" else name[0]
        return f"{family}:{host}:{name[1]}"

    def cancelled(self) -> bool:
        """Whether the client has left."""
        return self._call.lane.transport is None and not self._call.is_ended

    def done(self) -> bool:
        """Whether it has ended."""
        return self._call.is_ended or self._call.lane.transport is None

    def peer_identities(self) -> None:
        """Who the client is by its certificate: the container's row of the connection knows."""

    def peer_identity_key(self) -> None:
        """Of :meth:`peer_identities`."""

    def auth_context(self) -> dict[str, Any]:
        """Nothing; as above."""
        return {}

    def set_compression(self, compression: Any) -> None:
        """Nothing is compressed by the server."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed by the server."""


class Registered:
    """What grpcio's generated code has registered."""

    def __init__(self) -> None:
        self._generic: list[Any] = []
        self._methods: dict[str, Method] = {}

    def add_generic(self, handlers: Any) -> None:
        """Take what is asked for its methods one by one."""
        self._generic += handlers

    def add_methods(self, service: str, handlers: dict[str, Any]) -> None:
        """Take the methods of a service. Raises TypeError for a plain function."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            self._methods[path] = method_of(handler, path)

    def find(self, path: str, fields: list[tuple[bytes, bytes]]) -> Method | None:
        """The method of `path`, if there is one."""
        method = self._methods.get(path)
        if method is not None:
            return method
        asked = SimpleNamespace(method=path, invocation_metadata=())
        for generic in self._generic:
            handler = generic.service(asked)
            if handler is not None:
                found = self._methods[path] = method_of(handler, path)
                return found
        return None
