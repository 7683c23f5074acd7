"""Which connections of a server are open, without a word between transport and protocol.

Rules:

- A connection of the core is known by its row, which bears the server's name and leaves the
  core's table when the descriptor is closed: nothing is told to anybody, or kept, here.
- A connection of plain asyncio is known by its transport, held weakly.
- Nothing is held that would keep a finished protocol in memory.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, NamedTuple

__all__ = ["Open", "Tracker", "peer_of"]


class Open(NamedTuple):
    """One open connection: its transport (None: not there yet) and its peer, for people."""

    transport: asyncio.Transport | None
    peer: str


class Tracker:
    """The open connections of one server. Rows of the core cost nothing."""

    def __init__(self) -> None:
        self.table: Any = None
        """The core's; None without a core, or a connection yet."""
        self._server: str | None = None
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    def add_row(self, conn: Any) -> None:
        """Learn of the core's table by the first row of the server."""
        self.table, self._server = conn.table, conn.server

    def add_transport(self, transport: asyncio.Transport) -> None:
        """Remember one connection of plain asyncio."""
        self._transports.add(transport)

    def open(self) -> list[Open]:
        """The connections that are still there, sending what they owe included."""
        found = []
        if self.table is not None:
            found = [Open(row.transport, row.peer) for row in self.table
                     if row.server == self._server]
        for transport in list(self._transports):
            if not transport.is_closing() or transport.get_write_buffer_size():
                found.append(Open(transport, peer_of(transport)))
        return found

    def __len__(self) -> int:
        return len(self.open())


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The peer's address for people: ``127.0.0.1:1234``, ``[::1]:1234`` or ``unix``."""
    address = transport.get_extra_info("peername")
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix"
