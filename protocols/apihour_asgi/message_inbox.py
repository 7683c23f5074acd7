"""The messages of a WebSocket that wait for its application, which takes them one by one.

Rules:

- Reading stops while there are many: an application that does not receive cannot grow our memory.
- An application that finds a message whenever it asks lets the others have their turn, too.
- A message stays until it is taken: who is cancelled while waiting for it loses none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from time import monotonic
from typing import Any

from apihour_asgi.framing import DONE, ASGIExchange
from apihour_asgi.sides import ConnectionSide, RequestHead

__all__ = ["ABNORMAL", "HIGH_WATER", "MESSAGES", "MessageInbox"]

MESSAGES = 32
"""Messages that wait before reading stops."""
HIGH_WATER = 65536
"""Bytes of messages that do."""
ABNORMAL = 1006
"""A connection that was lost (RFC 6455 7.4.1)."""
# Seconds that an application may go from message to message before others have their turn.
_BUDGET = 0.002


class MessageInbox(ASGIExchange):
    """What of a WebSocket its application receives from."""

    __slots__ = ("_is_paused", "_turn", "_waiter", "closing", "ended", "inbox", "kept")

    def __init__(self, hosted: ConnectionSide, message: RequestHead, scope: dict[str, Any],
                 arrived: float) -> None:
        # Whatever else it is answered, the connection was meant for a WebSocket.
        super().__init__(hosted, message, scope, arrived, keep=False, modern=True)
        self.websocket = True
        # Messages as they are, what begins and ends the WebSocket as ASGI has it.
        self.inbox: deque[str | bytes | dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self.kept = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._turn = 0.0  # when the application last gave way; 0: it has just done so
        self.closing = False
        self.ended = False  # the connection is over: what is in the inbox is the last

    def put(self, message: str | bytes | dict[str, Any]) -> None:
        """Have `message` wait for the application."""
        self.inbox.append(message)
        self.wake()

    def pause(self) -> None:
        """It is full: more frames have to wait for the application."""
        if not self.closing:
            self._is_paused = True
            self.lane.pause_payload()

    def go_on(self) -> None:
        """There may be room again."""
        is_full = self.kept > HIGH_WATER or len(self.inbox) >= MESSAGES
        if not self.ended and (self.closing or not is_full):
            self._is_paused = False
            self.lane.resume_payload()

    def take(self) -> str | bytes | dict[str, Any] | None:
        """What is next, None when that is to be waited for by :meth:`more`.

        A message, or what ASGI has for the beginning and the end, which then stays the last.
        """
        inbox = self.inbox
        if not inbox:
            if self.gone or self.ended or self.state == DONE:
                return {"type": "websocket.disconnect", "code": ABNORMAL, "reason": ""}
            return None
        if not self._turn:
            self._turn = monotonic()
        elif monotonic() - self._turn > _BUDGET:
            return None
        message = inbox.popleft()
        if type(message) is dict:
            if message["type"] == "websocket.disconnect":
                inbox.append(message)
            return message
        self.kept = self.kept - len(message) if inbox else 0
        if self._is_paused:
            self.go_on()
        return message

    def more(self) -> Awaitable[None]:
        """Wait until :meth:`take` may have something; others have their turn."""
        self._turn = 0.0
        if self.inbox:
            return asyncio.sleep(0)
        if self._waiter is not None and not self._waiter.done():
            return self.wait()  # several wait
        waiter: asyncio.Future[None] = self.lane.loop.create_future()
        self._waiter = waiter
        return waiter

    def wake(self) -> None:
        """Let whoever waits look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.event is not None:
            self.event.set()

    async def receive(self) -> dict[str, Any]:
        """The next message. Once it was a disconnect, again that one."""
        while (message := self.take()) is None:
            await self.more()
        if type(message) is str:
            return {"type": "websocket.receive", "text": message}
        if type(message) is bytes:
            return {"type": "websocket.receive", "bytes": message}
        assert type(message) is dict
        return message
