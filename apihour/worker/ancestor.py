"""What API-Hour's ``make_servers(sockets)`` made: asyncio's servers, which accept by themselves."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from apihour.plugins import ServerContext

__all__ = ["AncestorServer"]


class AncestorServer:
    """What ``async make_servers(sockets)`` returned: asyncio servers that accept by themselves."""

    protocol = "asyncio"

    def __init__(self, pairs: dict[Any, Any]) -> None:
        self._pairs = pairs

    async def start(self, context: ServerContext | None = None) -> None:
        """Nothing to do: they run already."""

    async def listener(self, sock: socket.socket) -> None:
        """Nothing to do: they listen already."""

    async def drain(self, deadline: float) -> None:
        """Close the servers and give each handler its own goodbye."""
        for server in self._pairs:
            server.close()
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        handlers = self._pairs.values()
        await asyncio.gather(*(_say_goodbye(handler, left * 0.8) for handler in handlers))

    async def stop(self) -> None:
        """Close the servers."""
        for server in self._pairs:
            server.close()

    def statistics(self) -> dict[str, Any]:
        return {"servers": len(self._pairs)}


async def _say_goodbye(handler: Any, seconds: float) -> None:
    """In the words of aiohttp's handlers: of the releases before 2.0, and since."""
    for name in ("finish_connections", "shutdown"):
        goodbye = getattr(handler, name, None)
        if callable(goodbye):
            await goodbye(seconds)
            return
