"""The connections that are open, and what is waited for before the last of them is gone."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

__all__ = ["OpenConnection", "OpenConnections"]


class OpenConnection(Protocol):
    """What a server asks of its connections."""

    def set_timer(self) -> None:
        """It has stayed: give it a timer of its own."""

    def drain(self) -> None:
        """Say goodbye: the next answer is the last."""

    def abort(self) -> None:
        """Drop it, with whatever was not sent."""

    def in_flight(self) -> int:
        """Requests being answered or waiting."""

    def is_websocket(self) -> bool:
        """Whether it is a WebSocket now."""

    def activity(self) -> dict[str, Any]:
        """What it is doing."""


class OpenConnections:
    """The open connections of one server."""

    def __init__(self, logger: logging.Logger) -> None:
        self.all: set[Any] = set()
        self.newcomers: set[Any] = set()
        self._logger = logger
        self._gone: asyncio.Future[None] | None = None
        self._goodbyes: set[asyncio.Task[Any]] = set()

    def tick(self) -> None:
        """Give those that have stayed a timer of their own."""
        for lane in self.newcomers:
            lane.set_timer()
        self.newcomers.clear()

    def lost(self, lane: OpenConnection) -> None:
        """A connection is gone."""
        self.all.discard(lane)
        self.newcomers.discard(lane)
        if self._gone is not None and not self.all and not self._gone.done():
            self._gone.set_result(None)

    async def wait_gone(self) -> None:
        """Return when no connection is left."""
        if self.all:
            self._gone = asyncio.get_running_loop().create_future()
            try:
                await self._gone
            finally:
                self._gone = None

    async def abort(self) -> None:
        """Drop what is left, at once."""
        for lane in list(self.all):
            lane.abort()
        if self.all:
            # connection_lost comes in the next turn of the loop.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for task in self._goodbyes:
            task.cancel()

    def keep_goodbye(self, task: asyncio.Task[Any]) -> None:
        """Hold a task that closes a WebSocket until it is done."""
        self._goodbyes.add(task)
        task.add_done_callback(self._said_goodbye)

    def _said_goodbye(self, task: asyncio.Task[Any]) -> None:
        self._goodbyes.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._logger.warning("closing a WebSocket failed", exc_info=task.exception())
