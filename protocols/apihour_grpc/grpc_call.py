"""One call: messages in, messages out, and its end, on one stream of HTTP/2.

Rules:

- Messages are taken as they come; nothing more is received while the service does not ask for
  them, and ``send`` waits while the client does not read.
- Whatever becomes of the service, the client gets a status: of what it raised, of the deadline
  that the client set, or of its own cancellation, which nobody hears.
- A failure of the service is told to the log; to its client only that there was one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic, time
from typing import Any

from apihour_grpc.length_prefixed import MessageReader, framed
from apihour_grpc.metadata import encoded, message_field
from apihour_grpc.status import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    OK,
    UNAVAILABLE,
    UNKNOWN,
    CallEnded,
    Pairs,
)

__all__ = ["GRPCCall", "Method"]

Method = Callable[["GRPCCall"], Awaitable[None]]
"""What serves a call: it receives and sends; its end is that of the call, or what it raises."""

# Messages that are kept for a service that does not ask for them, in bytes.
_HIGH_WATER = 65536


class GRPCCall:
    """One call; also the exchange that the server of HTTP knows (``apihour_http.hosting``)."""

    __slots__ = (
        "_event", "_kept", "_messages", "_reader", "answered", "arrived", "code", "deadline",
        "failure", "has_body", "head", "hosted", "is_complete", "is_ended", "is_head_sent",
        "keep", "lane", "left", "metadata", "method", "size", "trailing", "websocket", "why",
    )

    def __init__(
        self, hosted: Any, head: tuple[bytes, bytes, list[tuple[bytes, bytes]]], method: Method,
        metadata: list[tuple[str, Any]], timeout: float | None, encoding: bytes, arrived: float,
    ) -> None:
        self.hosted = hosted
        self.lane = hosted.lane
        self.head = head
        self.method = method
        self.metadata = metadata
        self.arrived = arrived
        self.deadline = None if timeout is None else arrived + timeout
        self.has_body = self.keep = True
        self.is_complete = self.answered = self.websocket = False
        self.is_head_sent = self.is_ended = False
        self.left, self.size = -1, 0
        self.code, self.why = OK, ""
        self.trailing: Pairs = ()
        self.failure: CallEnded | None = None
        self._reader = MessageReader(hosted.host.max_message, encoding)
        self._messages: deque[bytes] = deque()
        self._kept = 0
        self._event: asyncio.Event | None = None

    # -- what the connection tells

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self.is_ended or self.failure is not None:
            return
        try:
            messages = self._reader.feed(piece)
        except CallEnded as error:
            self.failure = error
            messages = []
        self._messages.extend(messages)
        self._kept += len(piece)
        if self._kept > _HIGH_WATER and self._messages:
            self.lane.pause_payload()
        self._wake()

    def complete(self) -> None:
        """The client sends no more messages."""
        self.is_complete = True
        if self._reader.is_amid() and self.failure is None:
            self.failure = CallEnded(INTERNAL, "a message that is cut off")
        self._wake()

    def fail(self, error: Any) -> None:
        """The body is broken, or takes too long."""
        self.failure = CallEnded(UNAVAILABLE, error.detail)
        self._wake()

    def abandon(self) -> None:
        """It has ended: what is to come is for nobody."""
        self.answered = True

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()

    # -- what the service does

    async def receive(self) -> bytes | None:
        """The next message, None behind the last. Raises CallEnded where it is malformed."""
        while not self._messages:
            if self.failure is not None:
                raise self.failure
            if self.is_complete:
                return None
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            await self._event.wait()
        message = self._messages.popleft()
        if not self._messages:
            self._kept = 0
            self.lane.resume_payload()
        return self._reader.opened(message)

    def begin(self, metadata: Pairs | None = None) -> None:
        """Send the initial metadata. Raises RuntimeError when they were sent."""
        if self.is_head_sent:
            raise RuntimeError("the initial metadata were sent: expected them before a message")
        fields = encoded(metadata)
        self.is_head_sent = True
        self.lane.send_head(200, [*self.hosted.host.head, *fields], False)

    async def send(self, message: bytes) -> None:
        """Send a message; waits while the client does not read."""
        if not self.is_head_sent:
            self.begin()
        data = framed(message)
        self.size += len(data)
        self.lane.send_body(data, False)
        if self.lane.write_paused:
            await self.hosted.writable()

    def end(self, code: int, message: str = "", metadata: Pairs | None = None) -> None:
        """Send the status, which is the last. Raises ValueError for metadata that are none."""
        if self.is_ended:
            return
        fields = [(b"grpc-status", b"%d" % code)]
        if message:
            fields.append((b"grpc-message", message_field(message)))
        fields += encoded(metadata)
        self.is_ended = True
        self.code = code
        if self.is_head_sent:
            self.lane.send_trailers(fields)
        else:  # "Trailers-Only"
            self.is_head_sent = True
            self.lane.send_head(200, [*self.hosted.host.head, *fields], True)

    def seconds_left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())

    # -- its run

    async def run(self) -> None:
        """Serve it, and see to it that it ends with a status."""
        try:
            try:
                if self.deadline is None:
                    await self.method(self)
                else:
                    await self._within(self.deadline - monotonic())
                self.end(self.code, self.why, self.trailing)
            except CallEnded as error:
                self.end(error.code, error.message, error.metadata)
            except asyncio.CancelledError:
                self.lane.abort()  # the client's, or the worker's end
                raise
            except Exception as error:
                self._failed(error)
        finally:
            self.lane.hosted_done(self, 200, self.size)

    async def _within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds) as limit:
                await self.method(self)
        except TimeoutError:
            if not limit.expired():
                raise
            raise CallEnded(DEADLINE_EXCEEDED, "the call took longer than its deadline") from None

    def _failed(self, error: Exception) -> None:
        # The host's handler knows the worker, the server and the peer, and counts repeats.
        said = f"the service failed on {self.named()[1]!a}"
        self.lane.loop.call_exception_handler({
            "message": said, "exception": error, "transport": self.lane.transport,
            "request": said})
        self.end(UNKNOWN, "the service failed")

    # -- for those who look

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The header fields, as they came."""
        return self.head[2]

    def named(self) -> tuple[str, str]:
        """Method of HTTP and path."""
        return self.head[0].decode("ascii"), self.head[1].decode("ascii", "replace")

    def client(self) -> str | None:
        """The address of who calls."""
        found: str | None = self.lane.client(self.head[2])
        return found

    def log(self, log: Any, status: int, size: int, now: float) -> None:
        """Enter it into the access log, its code after the path."""
        method, path = self.named()
        agent = dict(self.head[2]).get(b"user-agent")
        log.add((time(), self.client(), method, f"{path}?grpc-status={self.code}", "HTTP/2.0",
                 status, size, now - self.arrived, None, agent and agent.decode("latin-1")))
