"""What one listener asks of its connections, as it is carried out; changed while they live.

Rule: what a socket cannot do, because its bind was declared elsewhere than it listens, is told
once and left out.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apihour.limits.bind_options import BindOptions
from apihour.limits.gate import AddressGate
from apihour.limits.watch import SilenceWatch

if TYPE_CHECKING:
    import asyncio

__all__ = ["Door", "layered"]

_PROBES = 3  # unanswered probes of TCP after which the peer is gone
_LEAST_GAP = 1  # seconds between two of them, at least


def layered(
    declared: BindOptions | None, limit: int | None, bound: BindOptions | None,
    live: BindOptions | None,
) -> BindOptions:
    """What holds: of the class and the files, of the bind with its `limit`, of operators."""
    said = replace(bound or BindOptions(), limit=limit)
    return (declared or BindOptions()).updated(said).updated(live)


class Door:
    """Of one listener: who may come in, who has been silent for too long.

    `entrance` counts its connections, `table` has them; `is_proxied`: a header names the peer.
    """

    def __init__(
        self, name: str, sock: socket.socket, entrance: Any, table: Any,
        loop: asyncio.AbstractEventLoop, log: logging.Logger, is_proxied: bool = False,
    ) -> None:
        self.options = BindOptions()
        self._name = name
        self._sock = sock
        self._entrance = entrance
        self._table = table
        self._log = log
        self._family = "unix" if sock.family == socket.AF_UNIX else "tcp"
        self._is_proxied = is_proxied
        self._gate = AddressGate(name, self.options, log)
        self._watch = SilenceWatch(name, loop, self._rows, log)
        self._told: set[str] = set()

    @property
    def refused(self) -> int:
        """Connections that were closed because there were too many."""
        return self._gate.refused

    @property
    def silenced(self) -> int:
        """Connections that were closed because they were silent, or slow."""
        return self._watch.closed

    @property
    def waits_at(self) -> int:
        """Open connections at which new ones stay in the backlog; 0: none do."""
        return 0 if self.options.over == "close" else self.options.limit or 0

    def change(self, options: BindOptions) -> None:
        """From now on these hold, also for the connections there are."""
        options = self._possible(options)
        if options == self.options:
            return
        before, self.options = self.options, options
        if options.by_address and not before.by_address:
            for conn in self._rows():
                if not self._is_proxied or getattr(conn.proxied, "source", None) is not None:
                    self._gate.count(conn.id, conn.peer_address)
        self._gate.change(options)
        self._watch.change(options)
        if options.keepalive != before.keepalive:
            self._keep_alive(options.keepalive or 0)

    def _possible(self, options: BindOptions) -> BindOptions:
        while why := options.misplaced(self._family, self._is_proxied):
            if why not in self._told:
                self._told.add(why)
                self._log.warning("server %r: %s is a unix socket: %s", self._name,
                                  self._sock.getsockname(), why)
            options = replace(options, **{why.split("'")[1]: None})
        return options

    def _rows(self) -> Iterator[Any]:
        parts = self._entrance.parts or {}
        ways = {id(self._entrance), *map(id, parts.values())}
        return (conn for conn in self._table if id(conn.entrance) in ways)

    def _keep_alive(self, seconds: int) -> None:
        """Connections have it from their listener, so that it costs them nothing (tcp(7))."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(seconds > 0))
        if not seconds:
            return
        idle = getattr(socket, "TCP_KEEPIDLE", 0x10)  # elsewhere TCP_KEEPALIVE of macOS
        gap = max(_LEAST_GAP, seconds // _PROBES)
        for option, value in ((idle, seconds), (socket.TCP_KEEPINTVL, gap),
                              (socket.TCP_KEEPCNT, _PROBES)):
            self._sock.setsockopt(socket.IPPROTO_TCP, option, value)

    # -- a connection ----------------------------------------------------------------------

    def admits(self, conn: Any) -> bool:
        """Whether a connection may go on now."""
        options = self.options
        if options.over == "close" and options.limit and self._entrance.open > options.limit:
            return False
        return not options.by_address or self._gate.admit(conn.id, conn.peer_address)

    async def enter(self, conn: Any) -> bool:
        """Wait until it may, or close it: False. A proxy's own connections always may."""
        if conn.proxied is not None and conn.proxied.source is None:
            return True
        if self.admits(conn):
            return True
        if self.options.over == "wait":
            conn.state = "waiting"
            if await self._gate.wait(conn.id, conn.peer_address):
                return True
        self._gate.refuse(conn.peer)
        return False

    def connected(self, conn: Any) -> None:
        """The loop has taken it, and set what it sets."""
        if self.options.nodelay is False:
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

    def leave(self, number: int) -> None:
        """The connection of that number is closed."""
        self._gate.leave(number)

    def close(self) -> None:
        """The server stops."""
        self._watch.stop()
