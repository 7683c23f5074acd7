"""FingerServer: what apihour hosts. It imports nothing of apihour, and serves without it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

__all__ = ["Directory", "FingerServer"]

Directory = Mapping[str, str]
_LONGEST = 512  # bytes of a query


class FingerServer:
    """Answers from `directory`: what is known, by name."""

    protocol = "finger"

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.queries = 0
        self.open: set[asyncio.Transport] = set()

    async def start(self, context: Any = None) -> None:
        """Nothing to get ready."""

    def stream(self, conn: Any = None) -> asyncio.Protocol:
        """The protocol of one new connection."""
        return _Query(self, conn)

    async def drain(self, deadline: float) -> None:
        """Answers are short: wait for those under way, close who asks nothing."""
        for transport in list(self.open):
            transport.close()
        while self.open and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Close what is left."""
        for transport in list(self.open):
            transport.abort()

    def statistics(self) -> dict[str, Any]:
        """Counters since start."""
        return {"queries": self.queries, "connections": len(self.open)}


class _Query(asyncio.Protocol):
    def __init__(self, server: FingerServer, conn: Any) -> None:
        self.server, self.conn, self.line = server, conn, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.open.add(transport)

    def data_received(self, data: bytes) -> None:
        self.line += data
        name, end, _ = self.line.partition(b"\r\n")
        if not end and len(self.line) <= _LONGEST:
            return
        self.server.queries += 1
        if self.conn is not None:
            self.conn.requests += 1
        known = self.server.directory.get(name.decode("ascii", "replace").strip())
        self.transport.write((known or "nobody of that name").encode() + b"\r\n")
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.server.open.discard(self.transport)
