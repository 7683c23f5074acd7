"""The services behind a server of HTTP: what it is told of streams, and which call that begins.

Rules:

- The server of HTTP calls ``start``, ``connect`` and ``stop``, and what ``connect`` returns; it
  takes any object of that shape for an application (``apihour_http.hosting``).
- What is no call of gRPC gets a status of HTTP, a call of no method one of gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from apihour_grpc.grpc_call import GRPCCall, Method
from apihour_grpc.length_prefixed import ENCODINGS
from apihour_grpc.metadata import CallFields, decoded, timeout_of
from apihour_grpc.status import INTERNAL, UNIMPLEMENTED, CallEnded

__all__ = ["GRPCHost"]


_HEAD = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", ENCODINGS)]


class GRPCHost:
    """Runs the services; `find` returns the method of a path, or None."""

    head = _HEAD

    def __init__(self, find: Callable[[str, CallFields], Method | None], max_message: int) -> None:
        self.find = find
        self.max_message = max_message
        self.tasks: set[asyncio.Task[Any]] = set()
        self.container: Any = None
        self.logger = logging.getLogger("apihour_grpc")

    async def start(self, container: Any, logger: logging.Logger, debug: bool) -> None:
        """Get ready."""
        self.container = container
        self.logger = logger

    def connect(self, lane: Any) -> StreamSide:
        """The services' side of one stream."""
        return StreamSide(self, lane)

    async def stop(self) -> None:
        """Cancel the calls that are left."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class StreamSide:
    """One stream as the services see it; ``lane`` is the stream (or a connection of HTTP/1)."""

    __slots__ = ("_room", "_task", "host", "lane", "running")

    def __init__(self, host: GRPCHost, lane: Any) -> None:
        self.host = host
        self.lane = lane
        self.running: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._room: asyncio.Event | None = None

    # -- what the connection asks

    def exchange(
        self, method: bytes, target: bytes, fields: CallFields, keep: bool, modern: bool,
        length: int, upgrade: bool, arrived: float, has_te: bool, forwarded: bool,
    ) -> GRPCCall:
        """The call of a head that was judged."""
        call = self._call(method, target, fields, arrived)
        call.has_body = length != 0
        return call

    def _call(self, method: bytes, target: bytes, fields: CallFields, arrived: float) -> GRPCCall:
        known = dict(fields)
        path = target.partition(b"?")[0].decode("ascii", "replace")
        head = method, target, fields
        refused = self._refused(method, known)
        if refused is not None:
            return GRPCCall(self, head, refused, [], None, b"", arrived)
        timeout, metadata, run = None, [], None
        if (value := known.get(b"grpc-timeout")) is not None:
            timeout = timeout_of(value)
            if timeout is None:
                run = _ends(INTERNAL, "grpc-timeout: expected digits and a unit")
        try:
            metadata = decoded(fields)
        except ValueError as error:
            run = _ends(INTERNAL, str(error))
        if run is None:
            run = self.host.find(path, fields) or _ends(
                UNIMPLEMENTED, f"method {path}: there is none of that name")
        encoding = known.get(b"grpc-encoding", b"")
        return GRPCCall(self, head, run, metadata, timeout, encoding, arrived)

    def _refused(self, method: bytes, known: dict[bytes, bytes]) -> Method | None:
        """What answers a request that is no call."""
        if self.lane.http_version != "2.0":
            return _answers_http1
        if method != b"POST":
            return _answers(405, [(b"allow", b"POST")])
        if not known.get(b"content-type", b"").lower().startswith(b"application/grpc"):
            return _answers(415, [(b"accept", b"application/grpc")])
        return None

    async def serve(self, call: GRPCCall) -> None:
        """Run one call."""
        self.running = call
        self._task = task = asyncio.current_task()
        assert task is not None
        self.host.tasks.add(task)
        try:
            await call.run()
        finally:
            self.host.tasks.discard(task)
            self._task = None

    def route(self) -> str:
        """The method that is called."""
        running = self.running
        return running.named()[1] if running is not None else ""

    async def writable(self) -> None:
        """Wait until the client reads on."""
        if self._room is None:
            self._room = asyncio.Event()
        self._room.clear()
        await self._room.wait()

    # -- what the connection tells

    def data_received(self, data: bytes) -> None:
        """Nothing is upgraded."""

    def must_know_of_end(self) -> bool:
        """Who sends no more on HTTP/1 is still told why it is refused; a call is given up."""
        is_ended = self.running is not None and self.running.is_ended
        return self.lane.http_version == "2.0" and not is_ended

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or has cancelled the call: so is who serves it."""
        if self._task is not None and not (self.running is not None and self.running.is_ended):
            self._task.cancel()

    def announce_close(self) -> None:
        """The server drains: calls are served to their end."""

    def goodbye(self) -> None:
        """Nothing is upgraded."""

    def pause_writing(self) -> None:
        """The client does not read."""

    def resume_writing(self) -> None:
        """The client reads on."""
        if self._room is not None:
            self._room.set()


def _ends(code: int, message: str) -> Method:
    async def run(call: GRPCCall) -> None:
        raise CallEnded(code, message)

    return run


def _answers(status: int, fields: CallFields) -> Method:
    """Answers what is no call by a status of HTTP."""

    async def run(call: GRPCCall) -> None:
        call.is_head_sent = call.is_ended = True
        call.lane.send_head(status, [*fields, (b"content-length", b"0")], True)

    return run


async def _answers_http1(call: GRPCCall) -> None:
    """Answers a client of HTTP/1 (RFC 9110 15.5.22)."""
    call.is_head_sent = call.is_ended = True
    call.keep = False
    call.lane.write(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 0\r\n"
                    b"Connection: Upgrade, close\r\n\r\n")


