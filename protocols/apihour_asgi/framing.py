"""An answer on its way: start, body, trailers, in that order, framed by RFC 9112 6.

Rules:

- Nothing is sent before the first body message (ASGI HTTP, "Response Start"): until then a
  failing application is answered 500, and a body that is all there gets its length.
- What the application declared is what it must send: more or less than its Content-Length is
  its error, and ends the connection when part of it is out.
- Once its last byte is written the answer is the connection's to count and to log; what the
  application does after that holds up nobody.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import Any

from apihour_asgi.answer_head import BODILESS, CLOSE, Declared, declare, status_line
from apihour_asgi.sides import ConnectionSide, RequestHead

__all__ = ["DONE", "SENDING", "STARTED", "WAITING", "ASGIExchange", "ClientDisconnected"]

# No start yet; a start that waits for its body; the head is out; trailers are due; complete.
WAITING, STARTED, SENDING, TRAILERS, DONE = range(5)
# How the end of a body is told.
NOTHING, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)
# Bodies from this size on (bytes) are not copied to stand behind their head.
_JOINED = 16384


class ClientDisconnected(ConnectionError):
    """Raised by ``send`` when the client has left (ASGI HTTP 2.4).

    `code` and `reason` are how its WebSocket ended: 1006 is a connection that was lost.
    """

    def __init__(self, said: str, code: int = 1006, reason: str = "") -> None:
        super().__init__(said)
        self.code = code
        self.reason = reason


class ASGIExchange:
    """What every exchange has: its request's facts, and the answer to it."""

    __slots__ = (
        "answered", "arrived", "declared", "due", "event", "failure", "framing", "gone",
        "has_body", "head_only", "hosted", "is_complete", "keep", "lane", "left", "line",
        "message", "modern", "scope", "size", "state", "status", "told_gone", "trailers",
        "websocket",
    )

    kinds = ("http.response.start", "http.response.body", "http.response.trailers")
    """What the messages of an answer are called."""

    def __init__(self, hosted: ConnectionSide, message: RequestHead, scope: dict[str, Any],
                 arrived: float, keep: bool, modern: bool) -> None:
        self.hosted = hosted
        self.lane = hosted.lane
        self.message = message
        self.scope = scope
        self.arrived = arrived
        self.keep = keep
        self.modern = modern
        self.has_body = self.websocket = self.is_complete = self.answered = self.gone = False
        self.left = 0
        self.told_gone = False
        self.failure: Any = None
        self.state = WAITING
        self.status = 0
        self.size = 0
        self.event: asyncio.Event | None = None

    def named(self) -> tuple[str, str]:
        """Method and target, for those who look."""
        method, target, *_ = self.message
        return method.decode("ascii"), target.decode("ascii")

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The header fields, as they came."""
        return self.message[2]

    def client(self) -> str | None:
        """The address of who sent the request."""
        found: str | None = self.lane.client(self.message[2])
        return found

    def log(self, log: Any, status: int, size: int, now: float) -> None:
        """Enter the exchange into the access log."""
        method, target = self.named()
        fields = {name.lower(): value for name, value in self.message[2]}
        referer, agent = fields.get(b"referer"), fields.get(b"user-agent")
        log.add((
            time(), self.client(), method, target,
            f"HTTP/{self.lane.http_version}" if self.modern else "HTTP/1.0", status, size,
            now - self.arrived, referer and referer.decode("latin-1"),
            agent and agent.decode("latin-1"),
        ))

    # -- what the application sends

    def advance(self, message: Any) -> None:
        """Take one message of the answer. Raises RuntimeError for one out of its order."""
        kind, state = message["type"], self.state
        start, body, trailers = self.kinds
        if state == WAITING:
            if kind != start:
                raise RuntimeError(f"message {kind!r}: expected {start!r}")
            self._start(message)
        elif state == DONE:
            raise RuntimeError(f"{kind!r} after the answer was complete: expected nothing more")
        elif state == TRAILERS:
            if kind != trailers:
                raise RuntimeError(f"message {kind!r}: expected {trailers!r}")
            self._trailers(message)
        elif kind != body:
            raise RuntimeError(f"message {kind!r}: expected {body!r}")
        else:
            self._body(message.get("body", b""), message.get("more_body", False))

    def _start(self, message: Any) -> None:
        self.status = status = message["status"]
        self.line = status_line(status)
        self.declared: Declared = declare(message.get("headers", ()))
        self.trailers: list[Any] | None = [] if message.get("trailers") else None
        self.head_only = self.message[0] == b"HEAD"
        self.state = STARTED

    def _body(self, body: Any, more: bool) -> None:
        head = b""
        size = len(body)
        if self.state == STARTED:
            head = self._head(size, more)
        framing = self.framing
        if framing == NOTHING:
            body = b""
        elif framing == LENGTH:
            self.account(size, more)
        elif framing == CHUNKED:
            body = b"%x\r\n%b\r\n" % (size, body) if size else b""
            if not more and self.trailers is None:
                body += b"0\r\n\r\n"
        if framing:
            self.size += size
        self.state = SENDING
        if head and len(body) < _JOINED:
            self.lane.write(head + body if body else head)
        else:
            if head:
                self.lane.write(head)
            if body:
                self.lane.write(body)
        if not more:
            if self.trailers is None:
                self.finish()
            else:
                self.state = TRAILERS

    def account(self, size: int, more: bool) -> None:
        """Count `size` bytes of a body whose length was told. Raises RuntimeError: not as many."""
        if size > self.due or (size < self.due and not more):
            raise RuntimeError(
                f"a body of {self.size + size} bytes{' so far' if more else ''}: expected "
                f"{self.size + self.due}, its Content-Length")
        self.due -= size

    def _trailers(self, message: Any) -> None:
        assert self.trailers is not None
        self.trailers.extend(message.get("headers", ()))
        if message.get("more_trailers", False):
            return
        self._send_trailers(self.trailers)
        self.finish()

    def _send_trailers(self, trailers: list[Any]) -> None:
        if self.framing == CHUNKED:
            self.lane.write(b"0\r\n%b\r\n" % declare(trailers).lines)

    # -- the head, once the first of the body is known

    def _head(self, size: int, more: bool) -> bytes:
        declared = self.declared
        length = self.frame(size, more)
        parts = [self.line, declared.lines]
        if not declared.dated:
            parts.append(self.hosted.host.date())
        if self.framing == CHUNKED:
            parts.append(b"transfer-encoding: chunked\r\n")
        if length is not None:
            parts.append(b"content-length: %d\r\n" % length)
        parts.append(self._connection())
        return b"".join(parts)

    def frame(self, size: int, more: bool) -> int | None:
        """Decide how the end of the body is told; the length that its head says, if it does.

        `size` are the bytes of its first message, `more` whether others follow.
        """
        declared, status = self.declared, self.status
        length = declared.length
        if self.head_only or status in BODILESS:
            self.framing = NOTHING
            return None if status == 204 else length  # RFC 9110 8.6
        if length is not None and not declared.chunked:
            self.framing, self.due = LENGTH, length
            if size > length or (size < length and not more):
                # Judged before anything is sent: the client still gets a whole answer.
                raise RuntimeError(f"a body of {size} bytes: expected {length}, its Content-Length")
            return length
        if not more and self.trailers is None and not declared.chunked:
            self.framing, self.due = LENGTH, size
            return size
        if self.modern:
            self.framing = CHUNKED
        else:
            self.framing = UNTIL_CLOSE
            self.keep = False
        return None

    def _connection(self) -> bytes:
        """The end of the head: whether the connection stays (RFC 9112 9.3, 9.6)."""
        lane = self.lane
        if self.keep and (self.declared.close
                          or (not self.is_complete and self.is_too_long_to_discard())
                          or (lane.closes() and lane.is_last())):
            self.keep = False
        if not self.keep:
            return CLOSE + b"\r\n"
        return b"\r\n" if self.modern else b"connection: keep-alive\r\n\r\n"

    def is_too_long_to_discard(self) -> bool:
        """Whether to close after an answer that comes now, while the request is not complete."""
        return False

    # -- the end

    def failed(self) -> None:
        """The application raised."""

    def is_settled(self) -> bool:
        """Whether nothing more is due: it was answered, or nobody is there to be answered."""
        return (self.state == DONE or self.gone or self.told_gone
                or self.failure is not None)

    def finish(self) -> None:
        """The answer is complete: the connection goes on."""
        self.state = DONE
        self.wake()
        self.lane.hosted_done(self, self.status, self.size)

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self.event is not None:
            self.event.set()

    async def wait(self) -> None:
        """Wait until something changes."""
        if self.event is None:
            self.event = asyncio.Event()
        self.event.clear()
        await self.event.wait()

    def reply(self, status: int, text: str) -> None:
        """Answer by ourselves, in plain text; the connection closes after it."""
        self.keep = False
        self.state = WAITING
        self._start({"status": status,
                     "headers": [(b"content-type", b"text/plain; charset=utf-8")]})
        self._body(text.encode(), False)

    def break_off(self) -> None:
        """End an answer that will not be complete: its client must be able to tell."""
        self.state = DONE
        self.keep = False
        self.wake()
        if self.framing == UNTIL_CLOSE:
            self.lane.abort()
        self.lane.hosted_done(self, self.status, self.size)

    def fall_short(self) -> None:
        """The application is done and the answer is not."""
        if self.state == DONE or self.lane.transport is None:
            return
        if self.told_gone:
            self.lane.abort()
        elif self.state in (WAITING, STARTED):
            if self.failure is not None:
                self.reply(self.failure.status, f"{self.failure.detail}\n")
            else:
                self.reply(500, "Internal Server Error")
        else:
            self.break_off()
