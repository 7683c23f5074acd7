"""What the loop is handed of an accepted connection: its descriptor, which tells when it is closed.

Rules:

- The table hears of it where the descriptor is closed, whoever closes it and whatever the
  protocol has done with its transport meanwhile.
- asyncio needs a socket, see ``tracked_socket.py``. uvloop asks an object for ``fileno()``,
  ``family`` and ``type``, makes it non-blocking itself, and calls ``close()`` once it has closed
  the descriptor (``handle.pyx``): there no socket is made, which costs two system calls and as
  much as the accept itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any, Protocol

__all__ = ["Descriptor", "TrackedRow"]


class TrackedRow(Protocol):
    """The connection's row in a table, which forgets it by ``remove()``."""

    @property
    def table(self) -> Any: ...


class Descriptor:
    """The descriptor of a stream connection as uvloop takes it."""

    __slots__ = ("_fd", "conn", "family")

    type = socket.SOCK_STREAM

    def __init__(self, family: socket.AddressFamily, descriptor: int) -> None:
        self.family = family
        self.conn: TrackedRow | None = None
        self._fd = descriptor

    def fileno(self) -> int:
        """The descriptor, -1 once it is closed."""
        return self._fd

    def close(self) -> None:
        """The loop has closed the descriptor."""
        self._fd = -1
        conn, self.conn = self.conn, None
        if conn is not None:
            conn.table.remove(conn)

    def give_up(self) -> None:
        """Close the descriptor of a connection that the loop has not taken."""
        if self._fd >= 0:
            os.close(self._fd)
        self.close()

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """As ``socket.getsockopt()``. Raises OSError."""
        with self._socket() as sock:
            return sock.getsockopt(level, option, size)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As ``socket.setsockopt()``, which protocols call on their row's. Raises OSError."""
        with self._socket() as sock:
            sock.setsockopt(level, option, value)

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        sock = socket.socket(self.family, self.type, fileno=self._fd)
        try:
            yield sock
        finally:
            sock.detach()
