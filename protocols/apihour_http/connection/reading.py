"""Reading on and off: a connection reads while there is no reason not to.

Rule: while answers are outstanding, the application does not keep up with a body, or the
client does not read, nothing is read: its input cannot grow our memory.
"""

from __future__ import annotations

import asyncio

__all__ = ["PAYLOAD", "QUEUE", "UPGRADE_TAIL", "WRITE", "Reading"]

# Reasons to stop reading.
QUEUE, PAYLOAD, WRITE, UPGRADE_TAIL = 1, 2, 4, 8


class Reading:
    """Whether one transport reads; ``paused`` is the sum of the reasons why not."""

    __slots__ = ("_transport", "paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport: asyncio.Transport | None = transport
        self.paused = 0

    def pause(self, reason: int) -> None:
        """Stop reading for `reason`."""
        transport = self._transport
        if not self.paused and transport is not None and not transport.is_closing():
            transport.pause_reading()
        self.paused |= reason

    def resume(self, reason: int) -> None:
        """Read on, unless there is another reason not to."""
        if self.paused & reason:
            self.paused &= ~reason
            transport = self._transport
            if not self.paused and transport is not None and not transport.is_closing():
                transport.resume_reading()

    def end(self) -> None:
        """The transport is gone."""
        self._transport = None
