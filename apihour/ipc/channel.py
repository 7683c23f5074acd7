"""The socketpair between the arbiter and one child: frames one way, frames the other.

Rules: the arbiter's end never blocks; end of file means that the other process is gone.
"""

from __future__ import annotations

import socket
from typing import Any

from apihour.ipc.wire import Framer, encode

__all__ = ["Channel"]

_CHUNK = 65536


class Channel:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self._framer = Framer()
        self._pending = bytearray()

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends, close-on-exec."""
        first, second = socket.socketpair()
        return cls(first), cls(second)

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, **message: Any) -> None:
        """Queue one message; a peer that is gone is noticed by :meth:`receive`."""
        self._pending += encode(message)
        self.flush()

    def flush(self) -> None:
        """Write what the kernel takes now."""
        try:
            while self._pending:
                del self._pending[: self.sock.send(self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self._pending.clear()

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have come; None when the other end is closed."""
        messages: list[dict[str, Any]] = []
        while True:
            try:
                data = self.sock.recv(_CHUNK)
            except BlockingIOError:
                return messages
            except OSError:
                return messages or None
            if not data:
                return messages or None
            messages += self._framer.feed(data)

    def close(self) -> None:
        self.sock.close()
