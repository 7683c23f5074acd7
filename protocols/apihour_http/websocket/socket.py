"""WebSocket: what an endpoint sends and receives by, whole messages at a time.

Rules:

- Until ``accept()`` it is a request as any: what the endpoint raises or returns is its answer.
- Whatever ends it, a client that leaves, a drain, our own ``close()``, ``receive()`` says so by
  WebSocketDisconnect; an endpoint that does not catch it is done, and nothing is wrong.
- Frames, pings, limits and the closing handshake are the ASGI plugin's, this is a face of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

from apihour_http.response import safe_header

__all__ = ["WebSocket", "WebSocketDisconnect"]

# RFC 6455 7.4 and the registry of close codes: what an endpoint may send.
_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
# RFC 6455 5.5: bytes of a reason, which shares a control frame with the code.
_REASON = 123
_BAD_PAYLOAD = 1007
_CLOSED = 1006


class WebSocketDisconnect(Exception):
    """The WebSocket is over: `code` and `reason` are those of its close frame.

    1000 is a normal end, 1001 a page that was left, 1005 an end without a code, 1006 a
    connection that was lost, 1012 our own restart.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocketEngine(Protocol):
    """The ASGI plugin's side of one WebSocket, and what of it is not ASGI."""

    hosted: Any
    """Its ``writable()`` waits until the client reads on."""
    lane: Any
    closing: bool

    def take(self) -> str | bytes | dict[str, Any] | None:
        """The next message, or ASGI's for the end; None while there is none."""

    def more(self) -> Awaitable[None]:
        """Wait until there may be one."""

    def transmit(self, message: str | bytes) -> None:
        """Send a message. Raises an OSError when the WebSocket is over."""

    async def send(self, message: dict[str, Any]) -> None:
        """Take ASGI's message. Raises an OSError when the WebSocket is over."""


class WebSocket:
    """One WebSocket of an endpoint: ``async def endpoint(request, websocket)``."""

    __slots__ = ("_engine", "_loads", "_offered", "dumps", "is_accepted", "is_closed",
                 "subprotocol", "waits")

    def __init__(
        self, engine: WebSocketEngine, offered: str | None, loads: Callable[[Any], Any],
        dumps: Callable[[Any], bytes],
    ) -> None:
        self._engine = engine
        self._offered = offered
        self._loads = loads
        self.dumps = dumps
        self.subprotocol: str | None = None
        """What was agreed on, of the route's ``subprotocols``."""
        self.is_accepted = False
        self.is_closed = False
        self.waits = 0
        """Calls that wait for the client, and hear of its end."""

    async def accept(
        self, headers: Mapping[str, str] | list[tuple[str, str]] | None = None
    ) -> None:
        """Shake hands; `headers` are added to the answer.

        Raises WebSocketDisconnect when the client has left, RuntimeError the second time,
        ValueError for a header that would break the message.
        """
        if self.is_accepted:
            raise RuntimeError("accept() of a WebSocket that is accepted: expected one")
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        checked = [(name.encode(), safe_header(name, value).encode("latin-1", "replace"))
                   for name, value in pairs]
        await self._tell({"type": "websocket.accept", "subprotocol": self._offered,
                          "headers": checked})
        self.subprotocol = self._offered
        self.is_accepted = True

    def receive(self) -> Coroutine[Any, Any, str | bytes]:
        """The next message. Raises WebSocketDisconnect when there is none any more."""
        return self._received(False)

    async def _received(self, ends_quietly: bool) -> str | bytes:
        if not self.is_accepted:
            raise _early("receive")
        engine = self._engine
        message = engine.take()
        if message is None:
            self.waits += 1
            try:
                while message is None:
                    await engine.more()
                    message = engine.take()
            finally:
                self.waits -= 1
        if type(message) is dict:
            self.is_closed = True
            if ends_quietly:
                raise StopAsyncIteration
            raise WebSocketDisconnect(message.get("code", _CLOSED), message.get("reason") or "")
        return message  # type: ignore[return-value]

    async def receive_json(self) -> Any:
        """The next message, decoded from JSON; one that is none ends the WebSocket with 1007."""
        message = await self.receive()
        try:
            return self._loads(message)
        except (ValueError, RecursionError):
            await self.close(_BAD_PAYLOAD, "expected JSON")
            raise WebSocketDisconnect(_BAD_PAYLOAD, "expected JSON") from None

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary message; waits while the client does not read.

        Raises WebSocketDisconnect when the WebSocket is over, TypeError for other data.
        """
        if not self.is_accepted:
            raise _early("send")
        if not isinstance(message, str | bytes):
            if not isinstance(message, bytearray | memoryview):
                raise TypeError(
                    f"send({ascii(message)[:100]}): expected str or bytes, or send_json()")
            message = bytes(message)
        engine = self._engine
        try:
            engine.transmit(message)
        except OSError as error:  # ASGI's word for it
            raise self._over(error) from None
        if engine.lane.write_paused and not engine.closing:
            self.waits += 1
            try:
                await engine.hosted.writable()
            finally:
                self.waits -= 1

    async def send_json(self, data: Any) -> None:
        """Send `data` as a text message of JSON."""
        await self.send(self.dumps(data).decode())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it; once it is closed nothing happens.

        Raises ValueError for a `code` that may not be sent or a `reason` over 123 bytes.
        """
        if code not in _CODES and not 3000 <= code <= 4999:
            raise ValueError(f"close({code!r}): expected 1000, 3000 to 4999, or another code of "
                             "RFC 6455 that may be sent")
        if len(reason.encode()) > _REASON:
            raise ValueError(f"close(reason={reason[:40]!r}…): expected at most {_REASON} bytes")
        if not self.is_accepted:
            raise _early("close")
        if self.is_closed:
            return
        self.is_closed = True
        try:
            await self._engine.send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            return  # the client was faster

    def __aiter__(self) -> WebSocket:
        """The messages, to its end."""
        return self

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        return self._received(True)

    async def _tell(self, message: dict[str, Any]) -> None:
        self.waits += 1
        try:
            await self._engine.send(message)
        except OSError as error:  # ASGI's word for it
            raise self._over(error) from None
        finally:
            self.waits -= 1

    def _over(self, error: OSError) -> WebSocketDisconnect:
        """What its end is called here."""
        self.is_closed = True
        return WebSocketDisconnect(
            getattr(error, "code", _CLOSED), getattr(error, "reason", ""))


def _early(what: str) -> RuntimeError:
    """What is said of a call before ``accept()``."""
    return RuntimeError(f"{what}() of a WebSocket that is not accepted: expected "
                        "await websocket.accept() before")
