"""What API-Hour's ``make_servers(sockets)`` made: asyncio's servers, which accept by themselves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from apihour.errors import HookError
from apihour.plugins import ServerContext

__all__ = ["AncestorServer"]

_ENDS = ("close", "stopListening", "stop")  # of asyncio's servers, of Twisted's ports, of others


class AncestorServer:
    """What ``async make_servers(sockets)`` returned: asyncio servers that accept by themselves."""

    protocol = "asyncio"

    def __init__(self, pairs: dict[Any, Any]) -> None:
        """Raises HookError for a server that nothing ends."""
        self._pairs = pairs
        self._ends = [_end_of(server) for server in pairs]

    async def start(self, context: ServerContext | None = None) -> None:
        """Nothing to do: they run already."""

    async def listener(self, sock: socket.socket) -> None:
        """Nothing to do: they listen already."""

    async def drain(self, deadline: float) -> None:
        """Close the servers and give each handler its own goodbye."""
        for end in self._ends:
            await _ended(end)
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        handlers = self._pairs.values()
        await asyncio.gather(*(_say_goodbye(handler, left * 0.8) for handler in handlers))

    async def stop(self) -> None:
        """Close the servers."""
        for end in self._ends:
            await _ended(end)

    def statistics(self) -> dict[str, Any]:
        return {"servers": len(self._pairs)}


def _end_of(server: Any) -> Callable[[], Any]:
    for name in _ENDS:
        end = getattr(server, name, None)
        if callable(end):
            return end  # type: ignore[no-any-return]
    raise HookError(f"make_servers(sockets) returned {server!r}, and nothing ends it: "
                    "expected an object with close()")


async def _ended(end: Callable[[], Any]) -> None:
    """Call it, and wait where it is asynchronous."""
    result = end()
    if asyncio.iscoroutine(result):
        await result


async def _say_goodbye(handler: Any, seconds: float) -> None:
    """In the words of aiohttp's handlers: of the releases before 2.0, and since."""
    for name in ("finish_connections", "shutdown"):
        goodbye = getattr(handler, name, None)
        if callable(goodbye):
            await goodbye(seconds)
            return
