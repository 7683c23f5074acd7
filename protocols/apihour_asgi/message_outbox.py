"""What the application of a WebSocket sends, on its way to the connection.

Rules:

- Answers to messages that came together leave together: a write costs more than most messages.
  They leave when the last of them is answered, or in the next turn of the loop.
- What the library has to send, pongs and the closing handshake, stands behind them.
"""

from __future__ import annotations

from typing import Any

from apihour_asgi.framing import ClientDisconnected
from apihour_asgi.message_inbox import ABNORMAL, MessageInbox

__all__ = ["MessageOutbox"]

# Bytes of frames that are held for one write.
_MOST = 16384


class MessageOutbox(MessageInbox):
    """What of a WebSocket its application sends by."""

    __slots__ = ("_held", "_size", "protocol")
    protocol: Any
    """The library's, which has what is no whole message."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: list[bytes] = []
        self._size = 0

    def transmit(self, message: str | bytes) -> None:
        """Send a message. Raises ClientDisconnected when the client has left, or we closed."""
        self.expect_open()
        lane, protocol = self.lane, self.protocol
        if protocol.extensions:
            if isinstance(message, str):
                protocol.send_text(message.encode())
            else:
                protocol.send_binary(message)
            frame = b"".join(protocol.data_to_send())
        else:
            frame = lane.framed(message)
        if self.inbox or self._held:
            self._hold(frame)
        elif lane.transport is not None:
            self.size += len(frame)
            lane.write(frame)

    def _hold(self, frame: bytes) -> None:
        """Keep `frame` for one write with those of the messages that wait."""
        if not self._held:
            self.lane.loop.call_soon(self.flush)
        self._held.append(frame)
        self._size += len(frame)
        if not self.inbox or self._size > _MOST:
            self.flush()

    def flush(self) -> None:
        """Write what is held, and what the library has to send."""
        frames = self.protocol.data_to_send()
        if self._held:
            frames = self._held + frames
            self._held, self._size = [], 0
        data = b"".join(frames)
        if data and self.lane.transport is not None:
            self.size += len(data)
            self.lane.write(data)

    def expect_open(self) -> None:
        """Raise ClientDisconnected, saying how it ended, when nothing can be sent any more."""
        if self.closing or self.gone:
            # How it ended is the last in the inbox, and stays there.
            last = self.inbox[-1] if self.inbox else None
            code, reason = ((last.get("code", ABNORMAL), last.get("reason", ""))
                            if type(last) is dict else (ABNORMAL, ""))
            raise ClientDisconnected("the WebSocket is closed", code, reason)
