"""WebSockets (RFC 6455) of an ASGI application; the library ``websockets`` makes the frames.

Rules:

- What is a whole message in one frame the connection reads by itself, and writes; the library
  has the others, and all frames where messages are compressed or the end has begun.
- Reading stops while the application does not receive, and while the client does not read its
  pongs: neither can grow our memory. How many frames have their turn is the connection's.
- Closing is a handshake (RFC 6455 7.1.1): after our close frame input is read on until the
  client's, for ten seconds at most; a frame that breaks the protocol ends it at once.
- A client that is silent for two intervals of pings is gone.
"""

from __future__ import annotations

import asyncio
from typing import Any

from apihour_asgi.answer_head import declare
from apihour_asgi.exchange import run
from apihour_asgi.frame_bounds import FrameBounds
from apihour_asgi.framing import DONE, WAITING, ClientDisconnected
from apihour_asgi.handshake import WebSocketSettings, shake_hands
from apihour_asgi.message_inbox import ABNORMAL, HIGH_WATER, MESSAGES
from apihour_asgi.message_outbox import MessageOutbox
from apihour_asgi.sides import ConnectionSide, RequestHead

__all__ = ["WebSocketExchange", "asked_for"]

# Seconds for the answer to a close frame.
_CLOSE_TIMEOUT = 10.0
# RFC 6455 7.4.1, and the registry of close codes: the service restarts, come back.
_RESTART = 1012
_FAILED = 1011


def asked_for(hosted: ConnectionSide, message: RequestHead, scope: dict[str, Any], arrived: float,
              options: WebSocketSettings) -> WebSocketExchange:
    """The exchange of a request for a WebSocket."""
    subprotocols = [
        token.strip() for name, value in scope["headers"]
        if name == b"sec-websocket-protocol" for token in value.decode("latin-1").split(",")]
    scope.update(
        type="websocket", asgi={"version": "3.0", "spec_version": "2.4"},
        scheme="wss" if scope["scheme"] == "https" else "ws", subprotocols=subprotocols,
        extensions={"websocket.http.response": {}})
    return WebSocketExchange(hosted, message, scope, arrived, options)


class WebSocketExchange(MessageOutbox):
    """One WebSocket, from the request for it to its end."""

    __slots__ = (
        "_beat", "_begun", "_bounds", "_due_pong", "_failed", "_heard", "_is_plain", "_options",
        "_parts", "_patience", "_response", "_text", "accepted",
    )

    kinds = ("websocket.http.response.start", "websocket.http.response.body", "")

    def __init__(self, hosted: ConnectionSide, message: RequestHead, scope: dict[str, Any],
                 arrived: float, options: WebSocketSettings) -> None:
        super().__init__(hosted, message, scope, arrived)
        self._options = options
        self.protocol, self._response = shake_hands(scope, options)
        self._bounds = FrameBounds(
            self.protocol, min(options.max_size, self.lane.longest_message))
        self._is_plain = True  # whether a whole message may come now
        self.accepted = False
        self._parts = bytearray()
        self._text = False
        self._begun = False
        self._failed = False  # whether the application raised
        self._beat: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None  # with the answer to our close frame
        self._heard = self._due_pong = False

    async def run(self) -> None:
        """Shake hands, run the application, see to the end of it."""
        response = self._response
        if response.status_code != 101:
            self.reply(response.status_code, bytes(response.body).decode())
            return
        try:
            await run(self)
            await self._finished()
        finally:
            if self._beat is not None:
                self._beat.cancel()
            self._beat = None

    async def _finished(self) -> None:
        """After the application: close what it left open, and wait for the client to agree."""
        if not self.accepted:
            return
        if not self.closing:
            # RFC 6455 7.4.1: an unexpected condition, or the purpose is fulfilled.
            self._close(_FAILED if self._failed else 1000, "")
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while not self.ended:
                    await self.wait()
        except TimeoutError:
            self.lane.abort()
        self.state = DONE
        self.lane.hosted_done(self, 101, self.size)

    def is_settled(self) -> bool:
        """Whether nothing more is due; an accepted WebSocket may just be left."""
        return self.accepted or super().is_settled()

    def fall_short(self) -> None:
        """The application is done: without a word it was, it is refused."""
        if self.accepted:
            return
        super().fall_short()

    # -- what the connection tells

    def complete(self) -> None:
        """The request has ended."""
        self.is_complete = True

    def fail(self, error: Any) -> None:
        """The request is broken: it has no body, so that nothing of it is."""
        self.failure = error

    def lost(self) -> None:
        """The client is gone."""
        self.gone = True
        self._end(ABNORMAL, "")

    def failed(self) -> None:
        """The application raised."""
        self._failed = True

    def data_received(self, data: bytes) -> int:
        """Bytes of frames. Returns how many of a frame that has begun are still to come."""
        self._heard = True
        end = self._take_messages(data) if self._is_plain and not self.closing else 0
        if end < len(data):
            self._take_frames(data[end:] if end else data)
        if self.kept > HIGH_WATER or len(self.inbox) >= MESSAGES:
            self.pause()
        return self._bounds.due

    def _take_messages(self, data: bytes | bytearray) -> int:
        """Take the whole messages that `data` begins with. Returns their bytes."""
        found, end = self.lane.messages(data, self._options.max_size)
        if found:
            self.inbox.extend(found)
            self.kept += end
            self.wake()
        return int(end)

    def _take_frames(self, data: bytes) -> None:
        """Have the library take frames, up to the next whole message behind one of them."""
        protocol, bounds = self.protocol, self._bounds
        while data:
            if self.closing:
                bounds.feed_rest(data)
                data = b""
            else:
                whole, data = bounds.feed(data, self._begun)
                if whole and not self._take_messages(whole):
                    protocol.receive_data(whole)
            for frame in protocol.events_received():
                self._frame(frame)
            self.flush()
            if protocol.close_sent is not None and not self.closing:
                self._broken()
            self._is_plain = not self._begun and bounds.is_between()
            if data and self._is_plain and not self.closing:
                data = data[self._take_messages(data):]

    def goodbye(self) -> None:
        """The server leaves: close with 1012; the application sees its client leave."""
        if not self.closing:
            self._close(_RESTART, "service restart")
            self.put({"type": "websocket.disconnect", "code": _RESTART,
                       "reason": "service restart"})

    # -- frames

    def _frame(self, frame: Any) -> None:
        opcode = int(frame.opcode)
        if opcode <= 2:
            if opcode:
                self._text = opcode == 1
            self._piece(frame)
        elif opcode == 8:
            received = self.protocol.close_rcvd
            self._end(int(received.code), received.reason)
        elif opcode == 10:
            self._due_pong = False

    def _piece(self, frame: Any) -> None:
        """A frame of a message; its pieces are joined as they come (many may be empty)."""
        data: Any = frame.data
        if not frame.fin or self._begun:
            self._parts += data
            self._begun = not frame.fin
            if not frame.fin:
                return
            data = bytes(self._parts)
            self._parts = bytearray()
        if self.closing:
            return
        if self._text:
            try:
                message: str | bytes = str(data, "utf-8")
            except UnicodeDecodeError as error:
                self.protocol.fail(1007, f"{error.reason} at position {error.start}")
                return
        else:
            message = bytes(data)
        self.kept += len(data)
        self.put(message)

    def _broken(self) -> None:
        """The library has failed the connection, and said why in its close frame."""
        sent = self.protocol.close_sent
        self._end(int(sent.code), sent.reason)

    def _end(self, code: int, reason: str) -> None:
        """The closing handshake is over, or the connection is: nothing more will come."""
        if self.ended:
            return
        self.ended = True
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if not self.closing:
            self.inbox.append({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.closing = True
        self.flush()
        self.wake()
        if self.accepted:
            self.lane.close_discarding()

    def _close(self, code: int, reason: str) -> None:
        """Send a close frame, and read on for the client's."""
        self.closing = True
        self.protocol.send_close(code, reason)
        self.flush()
        self.go_on()
        self._patience = self.lane.loop.call_later(_CLOSE_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if not self.ended:
            self.ended = True
            self.wake()
            self.lane.abort()

    def _ping(self) -> None:
        """A ping each interval; no sign of life between two of them, and the client is gone."""
        interval = self._options.ping_interval
        if self.closing or interval is None:
            return
        # While reading is paused we would not hear it.
        if self._due_pong and not self._heard and not self.lane.paused:
            self.protocol.fail(_FAILED, "keepalive ping timeout")
            self.flush()
            self._broken()
            return
        self._heard = False
        self._due_pong = True
        self.protocol.send_ping(b"")
        self.flush()
        self._beat = self.lane.loop.call_later(interval, self._ping)

    # -- what the application is given

    async def send(self, message: Any) -> None:
        """Take a message; waits while the client does not read.

        Raises ClientDisconnected (an OSError) when it has left or the WebSocket is closed,
        RuntimeError for a message out of its order, ValueError for one that cannot be sent,
        TypeError for data that is neither text nor bytes.
        """
        kind = message["type"]
        if self.accepted:
            if kind == "websocket.send":
                self.transmit(_data_of(message))
            elif kind == "websocket.close":
                self.expect_open()
                self._leave(message.get("code", 1000), message.get("reason") or "")
            else:
                raise RuntimeError(f"message {kind!r}: expected 'websocket.send' or "
                                   "'websocket.close'")
            if self.lane.write_paused and not self.closing:
                await self.hosted.writable()
            return
        if self.gone:
            raise ClientDisconnected("the client has left")
        if self.state != WAITING:
            self.advance(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self.reply(403, "")
        elif kind == "websocket.http.response.start":
            self.keep = False
            self.advance(message)
        else:
            raise RuntimeError(
                f"message {kind!r}: expected 'websocket.accept', 'websocket.close' or "
                "'websocket.http.response.start'")

    def _leave(self, code: int, reason: str) -> None:
        """The application closes it."""
        self._close(code, reason)
        self.put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _accept(self, message: Any) -> None:
        """Answer 101 (RFC 6455 4.2.2); from then on the bytes are frames."""
        pairs = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        subprotocol = message.get("subprotocol")
        if subprotocol:
            pairs.append((b"sec-websocket-protocol", subprotocol.encode()))
        lines = declare(pairs).lines
        ours = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode())
                        for name, value in self._response.headers.raw_items() if name != "Date")
        self.lane.write(b"HTTP/1.1 101 Switching Protocols\r\n%b%b%b\r\n" % (
            self.hosted.host.date(), ours, lines))
        self.accepted = True
        self.lane.upgraded(self.data_received)
        if self._options.ping_interval is not None:
            self._beat = self.lane.loop.call_later(self._options.ping_interval, self._ping)
        if self.lane.is_draining():
            self.goodbye()


def _data_of(message: Any) -> str | bytes:
    """The data of a ``websocket.send``. Raises TypeError when it is neither text nor bytes."""
    data: Any = message.get("bytes")
    kind: Any = bytes | bytearray | memoryview
    if data is None:
        data, kind = message["text"], str
    if not isinstance(data, kind):
        raise TypeError(f"websocket.send of {ascii(data)[:100]}: expected a str as text, or bytes")
    return data  # type: ignore[no-any-return]
