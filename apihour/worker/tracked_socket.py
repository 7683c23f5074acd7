"""What asyncio's own loop is handed of an accepted connection; uvloop's: ``handed.py``.

Rule: read where a worker has such a loop.
"""

from __future__ import annotations

import socket

from apihour.worker.handed import TrackedRow

__all__ = ["TrackedSocket"]


class TrackedSocket(socket.socket):
    """A connection's socket as asyncio takes it.

    Family and type are kept: the standard library makes an enum member each time it is asked.
    """

    __slots__ = ("conn", "family", "type")

    conn: TrackedRow | None
    family: socket.AddressFamily
    type: socket.SocketKind

    def __init__(self, family: socket.AddressFamily, descriptor: int) -> None:
        super().__init__(family, socket.SOCK_STREAM, fileno=descriptor)
        self.conn, self.family, self.type = None, family, socket.SOCK_STREAM
        self.setblocking(False)

    def _leave(self) -> None:
        conn, self.conn = self.conn, None
        if conn is not None:
            conn.table.remove(conn)

    def close(self) -> None:
        self._leave()
        super().close()

    def detach(self) -> int:
        self._leave()
        return super().detach()

    give_up = close
