"""Farewell: what a client is told where nobody can be let in, before any key exchange.

Rules:

- An SSH client shows the text of a disconnect, and nothing of a connection that is closed; the
  disconnect needs no host key (RFC 4253 4.2, 6 and 11.1: before the first key exchange packets
  go unencrypted).
- The connection ends when the client has read it, or after a second: closing at once would
  reset it, for what the client has sent meanwhile, and take the text with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import cast

__all__ = ["Farewell", "disconnect_message"]

_DISCONNECT, _BY_APPLICATION = 1, 11  # RFC 4253 11.1
_BLOCK = 8  # bytes; RFC 4253 6: padded to a multiple of it, by 4 bytes or more
_PATIENCE = 1.0  # seconds


def disconnect_message(reason: str) -> bytes:
    """One SSH_MSG_DISCONNECT with `reason` for a person, to be sent after the version."""
    text = reason.encode()
    payload = struct.pack(">BII", _DISCONNECT, _BY_APPLICATION, len(text)) + text + bytes(4)
    padding = _BLOCK - (len(payload) + 5) % _BLOCK
    padding += _BLOCK if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


class Farewell(asyncio.Protocol):
    """Says `reason` to one client that has the server's version already.

    `left` is called when the connection is gone.
    """

    def __init__(self, reason: str, left: Callable[[], object]) -> None:
        self._reason = reason
        self._left = left
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not asyncio's
        self._transport.write(disconnect_message(self._reason))
        with contextlib.suppress(OSError):  # the client is gone: reading finds out
            if self._transport.can_write_eof():
                self._transport.write_eof()
        asyncio.get_running_loop().call_later(_PATIENCE, self.abort)

    def data_received(self, data: bytes) -> None:
        """Whatever it says, the answer is the same."""

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
