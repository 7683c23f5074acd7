"""One HTTP request and what the application makes of it (ASGI HTTP connection scope).

Rules:

- The body is handed on as it comes; reading stops while the application does not ask for it,
  and ``send`` waits while the client does not read: neither end can grow our memory.
- A client that waits for ``100 Continue`` gets it when the application first asks for the body
  (RFC 9110 10.1.1), and not when it never does.
- ``http.disconnect`` comes when the client has left, or has said that it sends no more and all
  it sent was given; after the answer it comes at once. Who only closed its side is answered.
"""

from __future__ import annotations

import asyncio
from typing import Any

from apihour_asgi.framing import DONE, SENDING, ASGIExchange, ClientDisconnected
from apihour_asgi.sides import ConnectionSide, RequestHead

__all__ = ["HTTPExchange", "run"]

# Bytes of a body that are kept for an application that does not ask for them.
_HIGH_WATER = 65536
_LOW_WATER = 16384
# The rest of a body (bytes) that is read for nobody, so that its connection stays open.
_DISCARDED = 1 << 20


class HTTPExchange(ASGIExchange):
    """One HTTP request; ``receive`` and ``send`` are what its application gets."""

    __slots__ = ("_ended", "_expects", "_kept", "_parts", "_told")
    _told: bool
    """Whether the application has had the whole body."""

    def __init__(self, hosted: ConnectionSide, message: RequestHead, scope: dict[str, Any],
                 arrived: float, keep: bool, modern: bool) -> None:
        # As ASGIExchange does: one call less in every request.
        self.hosted = hosted
        self.lane = hosted.lane
        self.message = message
        self.scope = scope
        self.arrived = arrived
        self.keep = keep
        self.modern = modern
        self.has_body = self.websocket = self.is_complete = self.answered = self.gone = False
        self.told_gone = self._expects = self._told = self._ended = False
        self.left = self.state = self.status = self.size = self._kept = 0
        self.failure = self.event = None
        self._parts: list[bytes] = []

    def expect_body(self, length: int, expects: bool) -> None:
        """A body of `length` bytes follows, -1 when chunked; `expects`: once it is asked for."""
        self.has_body = True
        self.left = length
        self._expects = expects

    # -- what the connection tells

    def feed(self, piece: bytes) -> None:
        """A piece of the body."""
        self._expects = False
        self.left -= len(piece)
        if self.state == DONE or not piece:
            return
        self._parts.append(piece)
        self._kept += len(piece)
        if self._kept > _HIGH_WATER:
            self.lane.pause_payload()
        self.wake()

    def complete(self) -> None:
        """The message has ended."""
        self.is_complete = True
        self._expects = False
        self.wake()

    def is_too_long_to_discard(self) -> bool:
        """Whether to close after an answer that comes now, for what of the body is to come.

        A client that waits to be asked may send its body after another answer, or leave it
        (RFC 9110 10.1.1): its next request could be taken for that body.
        """
        return self._expects or not 0 <= self.left <= _DISCARDED

    def abandon(self) -> None:
        """The answer is complete: what is still to come of the body is for nobody."""
        self.answered = True
        self._parts.clear()
        self.lane.resume_payload()

    def fail(self, error: Any) -> None:
        """The message is broken: the application sees its client leave, the client is told."""
        self.keep = False
        self.failure = error
        self.wake()

    def input_ended(self) -> None:
        """The client sends no more; it may still read (RFC 9112 9.6)."""
        self._ended = True
        self.keep = False
        self.wake()

    def lost(self) -> None:
        """The client is gone."""
        self.gone = True
        self.wake()

    # -- what the application is given

    def run(self) -> Any:
        """The coroutine of the application's run for this request."""
        return run(self)

    async def receive(self) -> dict[str, Any]:
        """The next of the body, or that the client has left."""
        while True:
            if self.gone or self.state == DONE or self.failure is not None:
                return {"type": "http.disconnect"}
            if self._parts or (self.is_complete and not self._told):
                return self._piece()
            if self._ended:
                self.told_gone = True
                return {"type": "http.disconnect"}
            if self._expects and not self.state:
                self._expects = False
                self.lane.send_continue()
            await self.wait()

    def _piece(self) -> dict[str, Any]:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if self._kept > _LOW_WATER:
            self._kept = 0
            self.lane.resume_payload()
        self._kept = 0
        # What was held back may have arrived while reading went on.
        if parts or not self.is_complete:
            return {"type": "http.request", "body": body, "more_body": True}
        self._told = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        """Take a message of the answer; waits while the client does not read.

        Raises ClientDisconnected (an OSError) when it has left, or its request was broken off
        before anything was answered (it is told so); RuntimeError for a message out of its order,
        ValueError for a header that cannot be sent.
        """
        if self.gone:
            raise ClientDisconnected("the client has left")
        if self.failure is not None and self.state < SENDING:
            raise ClientDisconnected(f"the request is not whole: {self.failure.detail}")
        self.advance(message)
        if self.lane.write_paused and self.state == SENDING:
            await self.hosted.writable()


async def run(exchange: Any) -> None:
    """Run the application for `exchange`, and see to it that an answer comes of it."""
    hosted = exchange.hosted
    host = hosted.host
    task = asyncio.current_task(hosted.lane.loop)
    host.tasks.add(task)
    try:
        result = await host.app(exchange.scope, exchange.receive, exchange.send)
    except asyncio.CancelledError:
        if exchange.state != DONE:
            exchange.lane.abort()
        raise
    except Exception as error:
        exchange.failed()
        report(exchange, error)
    else:
        if exchange.state == DONE and result is None:
            return
        if not exchange.is_settled():
            host.logger.error("%s: the %s application returned from %s without a complete answer",
                              exchange.lane.remote(), host.speaks, _request(exchange))
        if result is not None:
            host.logger.error("%s: the %s application returned %.80r from %s: expected None",
                              exchange.lane.remote(), host.speaks, result, _request(exchange))
    finally:
        host.tasks.discard(task)
        task = None  # a task that is cancelled keeps this frame
    exchange.fall_short()


def report(exchange: Any, error: Exception) -> None:
    """Log what an application raised, unless it was only told that its client has left."""
    seen: BaseException | None = error
    gone = exchange.failure is not None or exchange.told_gone
    while seen is not None and not gone:
        gone = isinstance(seen, ClientDisconnected)
        seen = seen.__cause__ or seen.__context__
    lane = exchange.lane
    if gone:
        exchange.hosted.host.logger.debug("%s: %s not answered: %r", lane.remote(),
                                          _request(exchange), error)
        return
    # The host's handler knows the worker, the server and the peer, and counts repeats.
    said = f"the {exchange.hosted.host.speaks} application failed on {_request(exchange)}"
    lane.loop.call_exception_handler({
        "message": said, "exception": error, "transport": lane.transport, "request": said})


def _request(exchange: Any) -> str:
    method, target = exchange.named()
    return f"{method} {target!a}"
