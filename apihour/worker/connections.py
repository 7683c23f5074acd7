"""The one connection table of a worker: every stream connection of every protocol.

Rules:

- A row appears when the connection is accepted and goes when its descriptor is closed,
  whatever the protocol did with its transport meanwhile (upgraded, replaced, aborted).
- Nothing sits between the transport and the protocol: byte counts are asked of the
  kernel (TCP_INFO, tcp(7)) when somebody looks.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from apihour.bind.peers import format_peer
from apihour.ops.activity import activity_of
from apihour.tls.termination import TLSFacts
from apihour.worker.handed import Handed

__all__ = ["AcceptedConnection", "ConnectionRecord", "ConnectionTable"]

# struct tcp_info of linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received stand at 120.
_TCP_INFO_BYTES = struct.Struct("=120xQQ")


@dataclass(frozen=True)
class ConnectionRecord:
    """One connection at one moment; ages in seconds, sizes in bytes (-1: unknown)."""

    id: str
    server: str
    protocol: str
    peer: str
    age: float
    bytes_in: int
    bytes_out: int
    state: str
    requests: int
    tls: str = ""
    """Version of TLS, empty for a plain connection."""
    path: str = ""
    """What the request under way asks for, as its protocol names it."""
    route: str = ""
    """What of the application answers it, as the command ``routes`` names it."""
    request_age: float | None = None
    """Seconds since the request under way began; None where none is."""
    client: str = ""
    """Who sent the request under way, where its protocol says so: behind a proxy not the peer."""


class AcceptedConnection:
    """One accepted connection: a row that its protocol may annotate.

    A protocol sets ``state`` to one of its own words (``idle``, ``request``, ``websocket``,
    ``shell``...) and counts ``requests``; everything else is the core's. ``tls`` is an
    ``TLSFacts`` once the handshake of a TLS connection is over, else None.
    """

    __slots__ = (
        "accepted_at",
        "alpn",
        "family",
        "id",
        "left",
        "local",
        "peer_address",
        "protocol",
        "requests",
        "server",
        "sock",
        "state",
        "table",
        "tls",
        "transport",
        "waiting",
    )

    def __init__(
        self, table: ConnectionTable, number: int, server: str, protocol: str,
        sock: Handed, peer_address: Any, local: Any, left: Callable[[], None] | None,
    ) -> None:
        self.table = table
        self.left = left
        self.id = number
        self.server = server
        self.protocol = protocol
        self.sock = sock
        self.family = sock.family
        self.peer_address = peer_address
        self.local = local
        self.accepted_at = time.monotonic()
        self.state = "open"
        self.requests = 0
        self.tls: TLSFacts | None = None
        self.alpn: str | None = None
        self.transport: asyncio.Transport | None = None
        self.waiting: asyncio.Future[Any] | None = None  # what its way to a protocol waits for

    @property
    def peer(self) -> str:
        """The peer's address for people: ``127.0.0.1:1234``."""
        return format_peer(self.peer_address)

    def byte_counts(self) -> tuple[int, int]:
        """Bytes received and bytes acknowledged by the peer; -1 where the kernel keeps none."""
        if self.family not in (socket.AF_INET, socket.AF_INET6) or self.sock.fileno() < 0:
            return -1, -1
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            sent, received = _TCP_INFO_BYTES.unpack_from(info)
        except (OSError, struct.error, AttributeError):
            return -1, -1
        return received, sent

    def record(self) -> ConnectionRecord:
        """Return what is known of it now. Called by the agent thread as well as the loop."""
        received, sent = self.byte_counts()
        doing = activity_of(self.transport)
        return ConnectionRecord(
            id=self.table.label(self.id), server=self.server, protocol=self.protocol,
            peer=self.peer, age=time.monotonic() - self.accepted_at, bytes_in=received,
            bytes_out=sent, state=doing.state or self.state, requests=self.requests,
            tls=self.tls.version if self.tls is not None else "", path=doing.path,
            route=doing.route, request_age=doing.age, client=doing.client,
        )

    def close(self, reason: str = "") -> None:
        """Abort the connection; must be called in the loop."""
        self.state = f"closing: {reason}" if reason else "closing"
        if self.transport is not None:
            self.transport.abort()
        elif self.waiting is not None:
            self.waiting.cancel()  # the loop has the socket: it must close it
        else:
            self.sock.give_up()


class Door(Protocol):
    """Who is refused: see :mod:`apihour.bind.bans`."""

    def __len__(self) -> int: ...

    def refuses(self, peer: Any) -> bool:
        """Whether a new connection of that peer is to be refused; counts it."""


class ConnectionTable:
    """The open connections of one worker, and how many there have been.

    `changed` is called with both numbers whenever a connection has come or gone.
    """

    def __init__(
        self, worker: str = "", changed: Callable[[int, int], None] | None = None
    ) -> None:
        self.worker = worker
        self.bans: Door | None = None
        """Who is refused before anything is known of the connection."""
        self.accepted = 0
        self._changed = changed
        self.rows: dict[int, AcceptedConnection] = {}
        """By number, in the order in which they came."""

    def label(self, number: int) -> str:
        """The id of a connection as operators write it: ``1.2-17`` is number 17 of worker 1.2."""
        return f"{self.worker}-{number}" if self.worker else str(number)

    def add(
        self, sock: Handed, server: str, protocol: str, peer: Any, local: Any = None,
        left: Callable[[], None] | None = None,
    ) -> AcceptedConnection:
        """Enter one accepted socket; it leaves by :meth:`remove`, which calls `left`."""
        self.accepted = number = self.accepted + 1
        conn = self.rows[number] = AcceptedConnection(
            self, number, server, protocol, sock, peer, local, left)
        if self._changed is not None:
            self._changed(len(self.rows), number)
        return conn

    def remove(self, conn: AcceptedConnection) -> None:
        """Take one connection out; a second time does nothing."""
        if self.rows.pop(conn.id, None) is None:
            return
        if conn.left is not None:
            conn.left()
        if self._changed is not None:
            self._changed(len(self.rows), self.accepted)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[AcceptedConnection]:
        return iter(list(self.rows.values()))

    def find(self, label: str) -> AcceptedConnection | None:
        """The connection of that id, ``17`` or ``1.2-17``, or None."""
        worker, _, number = label.rpartition("-")
        if (worker and worker != self.worker) or not number.isdigit():
            return None
        return self.rows.get(int(number))
