"""UDPServer: any datagram protocol class or factory, as a server.

Rules:

- The user's protocol talks to the loop's own transport; nothing sits between them.
- Draining answers what was received: the protocol gets the turns of the loop it needs for
  that, and ``on_drain()`` when it has one, before the transport is closed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from apihour_tcp.factories import (
    classify,
    describe,
    is_protocol,
    required_positionals,
)
from apihour_tcp.trial import EXPECTED

__all__ = ["UDPServer"]

# A datagram read in one turn is answered in it or, by a task made for it, in the next.
_TURNS = 2
# How often drain looks whether the answers have left, in seconds.
_POLL = 0.01


class UDPServer:
    """Serve `factory`, an ``asyncio.DatagramProtocol`` class or a callable that returns one.

    A protocol with ``on_drain()`` (plain or ``async``) has it called, and awaited, before its
    transport is closed: that is where answers still being computed are waited for.

    Raises TypeError when `factory` cannot be called without arguments.
    """

    protocol = "udp"

    def __init__(self, factory: Callable[[], asyncio.DatagramProtocol]) -> None:
        if (
            not callable(factory)
            or classify(factory) in ("stream", "callback")
            or required_positionals(factory) not in (0, None)
        ):
            raise TypeError(
                f"UDPServer({factory!r}): expected an asyncio.DatagramProtocol class or a "
                "callable without arguments that returns one"
            )
        self._factory = factory
        self._description = describe(factory)
        self._name = "udp"
        self._logger = logging.getLogger("apihour_tcp")
        self._errors = 0
        self._open: dict[asyncio.DatagramTransport, asyncio.DatagramProtocol] = {}

    def __repr__(self) -> str:
        return f"UDPServer({self._description})"

    async def start(self, context: Any = None) -> None:
        """Take name and logger from `context` (an ``apihour.plugins.ServerContext``)."""
        if context is not None:
            self._name, self._logger = context.name, context.logger

    def datagram(self) -> asyncio.DatagramProtocol:
        """Return the protocol of one socket. Raises what the factory raises, or TypeError."""
        protocol = self._factory()
        if not is_protocol(protocol, "datagram"):
            raise TypeError(
                f"factory {self._description} returned {protocol!r}, "
                f"expected {EXPECTED['datagram']}"
            )
        return _DatagramArrival(self, protocol)

    async def drain(self, deadline: float) -> None:
        """Answer what was received, then close; `deadline` is a time of ``loop.time()``."""
        loop = asyncio.get_running_loop()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for transport, protocol in list(self._open.items()):
            try:
                async with asyncio.timeout_at(deadline):
                    await self._goodbye(protocol)
            except TimeoutError:
                self._logger.warning("server %r: on_drain of %s passed the deadline",
                                     self._name, self._description)
            transport.close()
            while _unsent(transport):
                if loop.time() >= deadline:
                    break
                await asyncio.sleep(_POLL)
            self._open.pop(transport, None)

    async def _goodbye(self, protocol: asyncio.DatagramProtocol) -> None:
        on_drain = getattr(protocol, "on_drain", None)
        if on_drain is None:
            return
        try:
            result = on_drain()
            if inspect.isawaitable(result):
                await result
        except Exception:
            self._errors += 1
            self._logger.exception("server %r: on_drain of %s failed", self._name,
                                   self._description)

    async def stop(self) -> None:
        """Close the sockets at once; unsent answers are dropped."""
        for transport in list(self._open):
            transport.abort()
        self._open.clear()

    def statistics(self) -> Mapping[str, Any]:
        """``sockets`` open now and ``errors`` of on_drain. Datagrams pass uncounted."""
        return {"sockets": len(self._open), "errors": self._errors}


class _DatagramArrival(asyncio.DatagramProtocol):
    """Learns the transport, then hands it to the user's protocol."""

    def __init__(self, server: UDPServer, protocol: asyncio.DatagramProtocol) -> None:
        self._server = server
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        datagrams = cast(asyncio.DatagramTransport, transport)
        self._server._open[datagrams] = self._protocol
        datagrams.set_protocol(self._protocol)
        self._protocol.connection_made(datagrams)


def _unsent(transport: asyncio.DatagramTransport) -> int:
    """Bytes that wait in the transport; uvloop's does not say, and sends at once."""
    size = getattr(transport, "get_write_buffer_size", None)
    return size() if size is not None else 0
