"""The one connection table of a worker: every stream connection of every protocol.

Rules:

- A row appears when the connection is accepted and goes when its descriptor is closed,
  whatever the protocol did with its transport meanwhile (upgraded, replaced, aborted).
- Nothing sits between the transport and the protocol: byte counts are asked of the
  kernel (TCP_INFO, tcp(7)) when somebody looks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections.abc import Callable, Coroutine, Iterator, MutableSequence
from typing import TYPE_CHECKING, Any, Union

from apihour.bind.peers import format_peer
from apihour.ops.ids import Ids
from apihour.plugins import BannedAddresses

if TYPE_CHECKING:
    from apihour.proxied.proxy_header import ProxyFacts
    from apihour.tls.termination import TLSFacts
    from apihour.worker.handed import Descriptor
    from apihour.worker.tracked_socket import TrackedSocket

    Handed = Descriptor | TrackedSocket

__all__ = ["AcceptedConnection", "ConnectionTable", "Entrance"]

Numbers = Union[MutableSequence[float], "memoryview[float]"]

# While one thread takes a connection's transport from where it was made, another waits.
_ARRIVING = threading.RLock()


class Entrance:
    """Where connections of one server come in, and what all of them have in common.

    `open` of them are. `freed`, if given, is called with the number of each that has gone.
    """

    __slots__ = ("freed", "local", "open", "parts", "protocol", "server")

    def __init__(
        self, server: str, protocol: str, local: Any = None,
        freed: Callable[[int], None] | None = None,
    ) -> None:
        self.server = server
        self.protocol = protocol
        self.local = local
        self.freed = freed
        self.open = 0
        self.parts: dict[str, Entrance] | None = None

    def part(self, server: str, protocol: str) -> Entrance:
        """The entrance of those of its connections that turn out to be for `server`."""
        if self.parts is None:
            self.parts = {}
        if server not in self.parts:
            self.parts[server] = Entrance(server, protocol, self.local, self._part_freed)
        return self.parts[server]

    def _part_freed(self, number: int) -> None:
        self.open -= 1
        if self.freed is not None:
            self.freed(number)


class AcceptedConnection:
    """One accepted connection: a row that its protocol may annotate, in the table when made.

    A protocol sets ``state`` to one of its own words (``idle``, ``request``, ``websocket``,
    ``shell``...) and counts ``requests``; everything else is the core's. ``tls`` is an
    ``TLSFacts`` once the handshake of a TLS connection is over, else None; ``proxied`` what the
    PROXY header said, on a ``?proxy`` bind.
    """

    __slots__ = (
        "_transport",
        "accepted_at",
        "alpn",
        "connecting",
        "entrance",
        "id",
        "peer_address",
        "proxied",
        "requests",
        "sock",
        "state",
        "table",
        "tls",
        "waiting",
    )

    def __init__(
        self, table: ConnectionTable, entrance: Entrance, sock: Handed, peer_address: Any
    ) -> None:
        self.table = table
        self.entrance = entrance
        self.sock = sock
        self.peer_address = peer_address
        self.accepted_at = time.monotonic()
        self.state = "open"
        self.requests = 0
        self.tls: TLSFacts | None = None
        self.alpn: str | None = None
        self.proxied: ProxyFacts | None = None
        self._transport: asyncio.Transport | None = None
        self.connecting: Coroutine[Any, None, Any] | None = None
        """Its way to a protocol, without TLS, until :meth:`arrive`."""
        self.waiting: asyncio.Future[Any] | None = None
        """What that waits for."""
        entrance.open += 1
        rows = table.rows
        self.id = table.accepted = number = table.accepted + 1
        rows[number] = self
        table.numbers[0], table.numbers[1] = len(rows), number

    def move(self, server: str, protocol: str) -> None:
        """Have the tables show it as a connection of `server`, a part of the one it came in for."""
        part = self.entrance.part(server, protocol)
        part.open += 1
        self.entrance = part

    @property
    def server(self) -> str:
        """The name of the server that it came in for."""
        return self.entrance.server

    @property
    def protocol(self) -> str:
        """What that server speaks."""
        return self.entrance.protocol

    @property
    def local(self) -> Any:
        """The address at which it came in, as of ``getsockname()``."""
        return self.entrance.local

    @property
    def peer(self) -> str:
        """The peer's address for people: ``127.0.0.1:1234``."""
        return format_peer(self.peer_address)

    @property
    def transport(self) -> asyncio.Transport | None:
        """None before it has a protocol."""
        if self._transport is None:
            self.arrive()
        return self._transport

    @transport.setter
    def transport(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport

    def arrive(self) -> None:
        """Take the transport from its way to a protocol, once that is over.

        Nobody is called for that: whoever first asks for the transport does it, in any thread,
        or else the table when the connection leaves. With TLS this does nothing.
        """
        with _ARRIVING:
            waiting = self.waiting
            if waiting is not None and waiting.done() and not waiting.cancelled():
                self._end_connecting()

    def _end_connecting(self, waited: asyncio.Future[Any] | None = None) -> None:
        connecting, self.connecting, self.waiting = self.connecting, None, None
        if connecting is None:
            return
        try:
            connecting.send(None)
        except StopIteration as done:
            self._transport = done.value[0]
        except asyncio.CancelledError:
            pass  # close() gave it up, and the loop closes the socket

    def close(self, reason: str = "") -> None:
        """Abort the connection; must be called in the loop."""
        self.state = f"closing: {reason}" if reason else "closing"
        if self.transport is not None:
            self.transport.abort()
        elif self.waiting is not None:
            # The loop has the socket: it must close it. Not before connection_made(), which it
            # calls in its next turn: uvloop would ask a handle that is freed.
            self.waiting.add_done_callback(self._end_connecting)
            self.waiting.cancel()
        else:
            self.sock.give_up()


class ConnectionTable:
    """The open connections of one worker, and how many there have been.

    Both `numbers` are written where a worker's row of the scoreboard has them.
    """

    def __init__(
        self, worker: str = "", numbers: Numbers | None = None, ids: Ids | None = None
    ) -> None:
        self.ids = Ids(worker) if ids is None else ids
        self.bans: BannedAddresses | None = None
        """Who is refused before anything is known of the connection."""
        self.accepted = 0
        self.numbers: Numbers = array("d", (0, 0)) if numbers is None else numbers
        self.rows: dict[int, AcceptedConnection] = {}
        """By number, in the order in which they came."""

    def label(self, number: int) -> str:
        """The id of a connection as operators write it: ``1.2-17`` is number 17 of worker 1.2."""
        return self.ids.write("-" if self.ids.worker else "", number)

    def add(
        self, sock: Handed, server: str, protocol: str, peer: Any, local: Any = None,
        left: Callable[[int], None] | None = None,
    ) -> AcceptedConnection:
        """Enter one socket with an entrance of its own; it leaves by :meth:`remove`."""
        return AcceptedConnection(self, Entrance(server, protocol, local, left), sock, peer)

    def remove(self, conn: AcceptedConnection) -> None:
        """Take one connection out; a second time does nothing."""
        if self.rows.pop(conn.id, None) is None:
            return
        self.numbers[0] = len(self.rows)
        entrance = conn.entrance
        entrance.open -= 1
        if entrance.freed is not None:
            entrance.freed(conn.id)
        if conn.connecting is not None:
            conn.arrive()  # else they would have each other

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[AcceptedConnection]:
        return iter(list(self.rows.values()))

    def find(self, label: str) -> AcceptedConnection | None:
        """The connection of that id, ``17`` or ``1.2-17``, or None."""
        number = self.ids.read("-", label)
        return None if number is None else self.rows.get(number)
