"""Arrival: what a connection is until its turn has come to begin a login.

Rules:

- The server's version answers the client's at once, whoever's turn it is: the client's own time
  for it (OpenSSH's ConnectTimeout, paramiko's 15 s) is kept. Who waits for ours first (both
  MUST send one, RFC 4253 4.2) gets it a second later: to connect alone earns nothing.
- What waits costs a socket and these lines; asyncssh sees it when its turn has come.
- Anything but a version first is no SSH (RFC 4253 4.2) and ends there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, cast

from apihour_ssh.admission import Admission, Ticket

__all__ = ["Arrival", "Lobby"]

_HESITATION = 1.0  # seconds in which a client that speaks first has spoken
_LINE = 255  # bytes of a version with its end of line, at most (RFC 4253 4.2)
_MOST = 48 * 1024  # bytes that a client sends unasked: its half of a key exchange (RFC 4253 6.1)


class Lobby:
    """Gives turns to those who wait. `patience`: seconds that one may wait, 0: any time."""

    def __init__(self, admission: Admission, patience: float) -> None:
        self.admission = admission
        self.patience = patience
        self._waiting: dict[Ticket, Arrival] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, ticket: Ticket, arrival: Arrival) -> None:
        """It is here and has said nothing yet."""
        self._waiting[ticket] = arrival

    def ask(self, ticket: Ticket) -> None:
        """It has sent its version."""
        self.admission.ask(ticket, time.monotonic())
        self._give_turns()

    def leave(self, ticket: Ticket) -> None:
        """It has gone before its turn."""
        self._waiting.pop(ticket, None)
        self.admission.leave(ticket)

    def has_some(self, silent: bool) -> bool:
        """Whether somebody waits; without `silent` those count only that have spoken."""
        return any(silent or one.has_asked for one in self._waiting.values())

    def close(self) -> None:
        """End whatever waits."""
        for arrival in list(self._waiting.values()):
            arrival.abort()

    def _give_turns(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while True:
            ticket, wait = self.admission.turn(time.monotonic())
            if ticket is None:
                break
            asyncio.get_running_loop().call_soon(self._waiting.pop(ticket).begin)
        if wait != math.inf:
            self._timer = asyncio.get_running_loop().call_later(wait, self._give_turns)


class Arrival(asyncio.Protocol):
    """Meets the limits when the connection is there, waits its turn, hands its transport over.

    `greeting`: the server's version line. `address_of` gets the transport; `make` the ticket,
    and returns the protocol that goes on, after the greeting; `refused` the address of one
    that may not stay. Without `queues` its turn is at once.
    """

    def __init__(
        self, lobby: Lobby, greeting: bytes, address_of: Callable[[asyncio.Transport], str],
        make: Callable[[Ticket], Any], refused: Callable[[str], object], queues: bool = True,
    ) -> None:
        self._lobby = lobby
        self._greeting = greeting
        self._address_of = address_of
        self._make = make
        self._refused = refused
        self._queues = queues
        self._received = b""
        self.has_asked = False
        self._stream: asyncio.Transport
        self._ticket: Ticket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        stream = self._stream = cast(asyncio.Transport, transport)
        address = self._address_of(stream)
        ticket = self._lobby.admission.admit(address, time.monotonic())
        if ticket.refused:
            self._refused(address)
            stream.abort()
            return
        self._ticket, ticket.end = ticket, stream.abort
        if self._queues:
            self._lobby.enter(ticket, self)
            self._timer = asyncio.get_running_loop().call_later(_HESITATION, self._greet)
        else:
            self.begin()

    def _greet(self) -> None:
        """Send the version; from now on patience counts."""
        greeting, self._greeting = self._greeting, b""
        if self._timer is not None:
            self._timer.cancel()
        if greeting:
            self._stream.write(greeting)
        if self._lobby.patience:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._lobby.patience, self.abort)

    def data_received(self, data: bytes) -> None:
        self._received += data
        line, end, _ = self._received[:_LINE].partition(b"\n")
        too_long = len(self._received) > _MOST or (not end and len(line) == _LINE)
        if too_long or not line.startswith(b"SSH-"[:len(line)]):
            self._stream.abort()
        elif end and not self.has_asked and self._ticket is not None:
            self.has_asked = True
            self._greet()
            self._lobby.ask(self._ticket)

    def begin(self) -> None:
        """Its turn has come."""
        ticket, stream = self._ticket, self._stream
        if ticket is None or ticket.left:
            return
        self._greet()
        if self._timer is not None:
            self._timer.cancel()
        try:
            protocol = cast(Any, self._make(ticket))
        except BaseException:
            stream.abort()
            raise
        ticket.end = protocol.abort
        self._ticket = None  # it is the protocol's now
        stream.set_protocol(protocol)
        protocol.connection_made(stream)
        if not stream.is_closing():
            protocol.data_received(self._received)

    def abort(self) -> None:
        """End it now."""
        self._stream.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It left, or made room for another, while it waited."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ticket is not None:
            self._lobby.leave(self._ticket)
