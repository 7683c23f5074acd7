"""The names that nats-py keeps private, and why they are needed.

- Its flush() writes PING past the commands that still wait, so the answer proves nothing of a
  subscription just made, or just ended: messages would be lost at both. Here they go first.
- Before it connects again it closes the old connection, and waits until what was written there is
  sent: where nothing arrives any more that is a quarter of an hour. Here it is thrown away.
- A message whose subject or headers are no text ends its connection, and so that of all who
  subscribe: anybody of the account could keep everybody off. Here it is thrown away, and said.

- An error that the server says ends its client for good, as when a user's time is up: the bus was
  dead until the worker ended. Here it is said, and connected again.

tests/apihour/bus/test_nats_private.py fails when a release moves them, or needs this no more.
"""

from __future__ import annotations

import time
from typing import Any

from nats.aio.client import Client
from nats.errors import Error
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

__all__ = ["OrderedClient"]

_NO_MESSAGE = ValueError("what is no message came, and was thrown away: its subject or its headers "
                         "are no text")


class OrderedClient(Client):
    """nats-py's client, whose flush() comes after what was asked before, and that lets go."""

    async def _send_ping(self, future: Any = None) -> None:
        if self._pending and self.is_connected and self._transport is not None:
            self._transport.writelines(self._pending[:])
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)

    async def _process_msg(self, *given: Any) -> None:
        try:
            await super()._process_msg(*given)
        except (ValueError, LookupError):
            await self._error_cb(_NO_MESSAGE)

    async def _process_err(self, err_msg: str) -> None:
        if STALE_CONNECTION in err_msg or PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)  # these do not end it
            return
        error = Error(f"nats: {err_msg.strip(chr(39))}")
        await self._error_cb(error)
        if self._current_server is not None:
            self._current_server.last_attempt = time.monotonic()  # it waits before the next
        await self._process_op_err(error)

    async def _attempt_reconnect(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)  # none by WebSocket
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()
