"""Services by the code that grpclib's generator makes: objects with ``__mapping__()``.

Rule: what their methods are given has what ``grpclib.server.Stream`` has; grpclib itself is only
imported by the services.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from apihour_grpc.grpc_call import GRPCCall, Method
from apihour_grpc.status import INTERNAL, OK, UNKNOWN, CallEnded, Pairs, number_of

__all__ = ["CallStream", "methods_of"]


def methods_of(service: Any) -> dict[str, Method]:
    """The methods of a service by their paths."""
    return {path: _served(handler) for path, handler in service.__mapping__().items()}


def _served(handler: Any) -> Method:
    function, load = handler.func, handler.request_type.FromString

    async def serve(call: GRPCCall) -> None:
        stream = CallStream(call, load)
        try:
            await function(stream)
        except Exception as error:
            raise _ended(error) from error
        if not stream.is_ended and not stream.sent and not handler.cardinality.server_streaming:
            raise CallEnded(UNKNOWN, "the service sent no message")

    return serve


def _ended(error: Exception) -> Exception:
    """A GRPCError, known by its shape, as what ends the call; another error as it is."""
    if type(error).__name__ == "GRPCError" and hasattr(error, "status"):
        return CallEnded(number_of(error.status), getattr(error, "message", None) or "")
    return error


class CallStream:
    """What a method is given, as ``grpclib.server.Stream``."""

    def __init__(self, call: GRPCCall, load: Any) -> None:
        self._call = call
        self._load = load
        self._metadata: Any = None
        self.sent = 0
        self.is_ended = False
        self.user_data: Any = None

    @property
    def container(self) -> Any:
        """The worker's container."""
        return self._call.hosted.host.container

    @property
    def metadata(self) -> Any:
        """What the client sent: a ``multidict.MultiDict`` where that is installed, as grpclib's."""
        if self._metadata is None:
            try:
                from multidict import MultiDict
            except ImportError:
                self._metadata = dict(self._call.metadata)
            else:
                self._metadata = MultiDict(self._call.metadata)
        return self._metadata

    @property
    def deadline(self) -> Any:
        """When the call must be over, with ``time_remaining()`` in seconds; None if never."""
        call = self._call
        return None if call.deadline is None else SimpleNamespace(time_remaining=call.seconds_left)

    @property
    def peer(self) -> Any:
        """The client, with ``addr()`` and ``cert()``."""
        ask = self._call.lane.get_extra_info
        return SimpleNamespace(addr=lambda: ask("peername"), cert=lambda: ask("peercert"))

    async def recv_message(self) -> Any:
        """The next request, None behind the last."""
        data = await self._call.receive()
        if data is None:
            return None
        try:
            return self._load(data)
        except Exception as error:
            raise CallEnded(INTERNAL, "a request that cannot be read") from error

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.recv_message()) is not None:
            yield message

    async def send_initial_metadata(self, *, metadata: Pairs | None = None) -> None:
        """Send the initial metadata. Raises RuntimeError when they were sent."""
        self._call.begin(metadata)

    async def send_message(self, message: Any) -> None:
        """Send a response."""
        self.sent += 1
        await self._call.send(message.SerializeToString())

    async def send_trailing_metadata(
        self, *, status: Any = OK, status_message: str | None = None, status_details: Any = None,
        metadata: Pairs | None = None,
    ) -> None:
        """End the call with a status."""
        self.is_ended = True
        self._call.end(number_of(status), status_message or "", metadata)

    async def cancel(self) -> None:
        """Reset the stream."""
        self.is_ended = True
        self._call.is_ended = True
        self._call.lane.abort()
