"""Arrival: what a connection is until its turn has come to begin a login."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from apihour_ssh.admission import Admission, Ticket

__all__ = ["Arrival"]


class Arrival(asyncio.Protocol):
    """Meets the limits when the connection is there, waits its turn, hands its transport over.

    `address_of` gets the transport; `make` the ticket, and returns asyncssh's protocol;
    `refused` the address of one that may not stay.
    """

    def __init__(
        self, admission: Admission, address_of: Callable[[asyncio.Transport], str],
        make: Callable[[Ticket], Any], refused: Callable[[str], None],
    ) -> None:
        self._admission = admission
        self._address_of = address_of
        self._make = make
        self._refused = refused
        self._ticket: Ticket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        stream = cast(asyncio.Transport, transport)
        address = self._address_of(stream)
        ticket = self._ticket = self._admission.admit(address, time.monotonic())
        if ticket.refused:
            self._refused(address)
            stream.abort()
        elif ticket.delay:
            ticket.end = stream.abort
            stream.pause_reading()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(ticket.delay, self._begin, stream, ticket, True)
        else:
            self._begin(stream, ticket, False)

    def _begin(self, stream: asyncio.Transport, ticket: Ticket, paused: bool) -> None:
        protocol = cast(Any, self._make(ticket))
        ticket.end = protocol.abort
        stream.set_protocol(protocol)
        protocol.connection_made(stream)
        if paused and not stream.is_closing():
            stream.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It left, or made room for another, while it waited."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ticket is not None:
            self._admission.leave(self._ticket)
