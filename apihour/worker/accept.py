"""The accept loop: how connections get from a listener to a protocol.

Rules:

- Stages in order: limit → balance → PROXY → bans → door → peek → TLS → protocol. A header or a
  handshake under way is a connection like any other; who has them: ``stages.py``.
- A worker with more than its share of connections leaves new ones to the others for a
  moment, and takes them after all when nobody did: no connection waits on a busy neighbour.
- Nothing is put between transport and protocol. What the loop is handed (``handed.py``) tells
  the table when the descriptor is closed, so upgrades and replaced protocols are counted right.
- Out of descriptors or memory: one rate-limited line, a counter, and another try soon;
  established connections never notice.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from apihour.config.rootlog import SERVER
from apihour.ipc.private import accept_descriptor
from apihour.ipc.scoreboard import BoardRow
from apihour.worker.connections import AcceptedConnection, Entrance
from apihour.worker.handed import Descriptor

if TYPE_CHECKING:
    from apihour.limits.door import Door
    from apihour.plugins import StreamServer
    from apihour.proxied.proxy_gate import ProxyGate
    from apihour.tls.termination import Terminator
    from apihour.worker.connections import ConnectionTable, Handed

__all__ = ["Acceptor", "Balance"]

Connect = Callable[["Handed", AcceptedConnection], None]

_BATCH = 16  # connections per readiness event: more would keep established ones waiting
_ALONE = 128  # readiness events, after one that brought a single connection, for which no second
# is looked for, at most: an accept in vain costs a fifth of all that a connection does
_REST = 0.001  # seconds a worker over its share leaves a connection to the others
_PATIENCE = 8  # rests in a row before it takes the connection after all
_FULL_REST = 0.01  # seconds until a worker at its limit looks whether it still is
_EXHAUSTED_REST = 0.1  # seconds without descriptors before the next try
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LINE_EVERY = 10.0  # seconds between two lines about the same trouble


class Balance:
    """Whether this worker has its share, by the rows of the workers that accept now."""

    SLACK = 8  # connections over the least loaded worker that are still its share: with
    # fewer, short connections have both sides of a pair rest in turn;
    SHARE = 16  # one more for every so many, as exact balance costs a burst its speed
    FRESH = 0.02  # seconds for which it is not looked again which workers accept
    LAG = 0.1  # seconds of loop lag that count as overload

    def __init__(self, own: BoardRow, others: Callable[[], Iterable[BoardRow]]) -> None:
        self._own = own
        self._others = others
        self.rows: tuple[BoardRow, ...] = ()
        self._looked = 0.0

    def refresh(self) -> None:
        """Look again which workers accept."""
        self._looked = time.monotonic()
        self.rows = tuple(self._others())

    def is_over(self) -> bool:
        """Whether another worker should take the next connection."""
        if time.monotonic() - self._looked > self.FRESH:
            self.refresh()
        rows = self.rows
        if not rows:
            return False
        own = self._own.connections
        own -= self.SLACK + own // self.SHARE
        lag = self._own.lag
        lagging = lag > self.LAG
        if own <= 0 and not lagging:
            return False  # nobody has fewer
        for row in rows:
            if row.accepting and (row.connections < own or (lagging and row.lag < lag / 2)):
                return True
        return False


class Acceptor:
    """Accepts on one stream listener for one server.

    `limit` is the number of open connections at which this listener stops accepting, `total`
    that of the whole worker (0: none); at a limit new ones wait in the kernel's backlog.
    """

    tls: Terminator | None = None  # None: its connections are plain
    proxy: ProxyGate | None = None  # None: they are their peers' own
    failed = 0  # handshakes
    is_direct = True  # nothing but its door has to be asked of a connection

    def __init__(
        self, name: str, sock: socket.socket, server: StreamServer, table: ConnectionTable,
        loop: asyncio.AbstractEventLoop, log: logging.Logger, *,
        balance: Balance | None = None, limit: int = 0, total: int = 0,
    ) -> None:
        self.name = name
        self.sock = sock
        self.server = server
        self.table = table
        self.loop = loop
        self.log = log
        self.balance = balance
        self.limit = limit
        self.total = total
        self.local = sock.getsockname()
        self.entrance = Entrance(
            name, server.protocol, self.local, self._freed if limit else None)
        self.door: Door | None = None
        self.is_held = False
        self.accepted = 0
        self.refused = 0
        self.banned = 0
        self._reading = False
        self._stopped = True
        self._rests = 0
        self._alone, self._next_alone = 0, 1
        self._timer: asyncio.TimerHandle | None = None
        self._last_line = -_LINE_EVERY
        # Connections inherit it from the callback that accepts them.
        self._context = contextvars.copy_context()
        self._context.run(SERVER.set, name)
        self._hand, self._family = _kind_for(loop), sock.family

    @property
    def open(self) -> int:
        """Its connections that are open now."""
        return self.entrance.open

    @property
    def is_started(self) -> bool:
        """Whether it accepts, unless it is held."""
        return not self._stopped

    def start(self) -> None:
        """Begin, or go on, accepting."""
        self._stopped = False
        self._read()

    def stop(self) -> None:
        """Stop accepting; what waits in the backlog is left to whoever shares the socket."""
        self._stopped = True
        self._pause()

    def hold(self, is_held: bool) -> None:
        """Leave what comes in the backlog, started or not, until it is let go."""
        self.is_held = is_held
        if is_held:
            self._pause()
        else:
            self._read()

    def obey(self, limit: int, door: Door | None) -> None:
        """From now on that limit holds, and what `door` asks of connections."""
        self.limit, self.door = limit, door
        self.entrance.freed = self._freed if limit or door is not None else None
        if self._timer is None:
            self._read()

    def _pause(self) -> None:
        self._unread()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self) -> None:
        """Take what waits in the backlog although accepting has stopped.

        For a socket that nobody will accept on any more: what is left there is reset.
        """
        while True:
            try:
                descriptor, peer = accept_descriptor(self.sock)
            except OSError:
                return  # empty, or no descriptor left: nothing more can be done for them
            self._take(descriptor, peer)

    async def wait_attached(self) -> None:
        """Wait until every accepted connection has its protocol, or failed to get one."""
        while awaited := self.attaching():
            await asyncio.wait(awaited)

    def attaching(self) -> set[asyncio.Future[Any]]:
        """What accepted connections that are on their way to their protocol wait for."""
        return {row.waiting for row in self.table
                if row.waiting is not None and not row.waiting.done()
                and row.entrance is self.entrance}

    def _read(self) -> None:
        if not (self._stopped or self.is_held or self._reading):
            self._reading = True
            self._context.run(self.loop.add_reader, self.sock.fileno(), self._readable)

    def _unread(self) -> None:
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self.sock.fileno())

    def _rest(self, delay: float) -> None:
        self._unread()
        self._timer = self.loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._rests:
            # Without epoll in between: the connection may be somebody else's by now.
            self._readable()
            if self._timer is None:
                self._read()
        else:
            self._read()

    def _readable(self) -> None:
        balance = self.balance
        for taken in range(_BATCH):
            if self.limit and self.entrance.open >= self.limit:
                self._unread()
                return  # _freed() reads on
            if self.total and len(self.table.rows) >= self.total:
                self._rest(_FULL_REST)
                return
            if balance is not None and self._rests < _PATIENCE and balance.is_over():
                self._rests += 1
                self._rest(_REST)
                return
            try:
                descriptor, peer = accept_descriptor(self.sock)
            except (BlockingIOError, InterruptedError):
                self._rests = 0
                if taken == 1:
                    self._alone = self._next_alone
                    self._next_alone = min(2 * self._alone, _ALONE)
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._exhausted(error)
                    return
                if error.errno in (errno.EBADF, errno.EINVAL):
                    self.stop()
                    raise
                continue  # ECONNABORTED and the network errors of accept(2): that one is gone
            self._rests = 0
            self._take(descriptor, peer)
            if self._alone:
                self._alone -= 1
                return  # epoll tells whether there is another
            if taken:
                self._next_alone = 1

    def _exhausted(self, error: OSError) -> None:
        self.refused += 1
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            self.log.error(
                "server %r cannot accept: %s; trying again every %g s (%d times so far)",
                self.name, error.strerror, _EXHAUSTED_REST, self.refused,
            )
        self._rests = 0
        self._rest(_EXHAUSTED_REST)

    def _take(self, descriptor: int, peer: Any) -> None:
        if (self.table.bans or self.proxy is not None) and self.refuses(peer):
            os.close(descriptor)
            return
        sock = self._hand(self._family, descriptor)
        conn = sock.conn = AcceptedConnection(self.table, self.entrance, sock, peer)
        self.accepted += 1
        if self.is_direct and (self.door is None or self.door.admits(conn)):
            self.connect(sock, conn)
        else:
            conn.waiting = self.loop.create_task(self._learn(sock, conn))

    def refuses(self, peer: Any) -> bool:
        """Whether a peer is banned; it is counted then."""
        bans = self.table.bans
        if bans and bans.refuses(peer):
            self.banned += 1
            return True
        return False

    async def _learn(self, sock: Handed, conn: AcceptedConnection) -> None:
        """See what must be known of a connection before it has a protocol, and go on with it."""
        try:
            go_on = await self.admit(sock, conn)
        except BaseException as error:  # conn.close(), or the peer is gone
            sock.give_up()
            if isinstance(error, OSError):
                return
            raise
        if go_on is None:
            sock.give_up()
        else:
            conn.state = "open"
            go_on(sock, conn)

    async def admit(self, sock: Handed, conn: AcceptedConnection) -> Connect | None:
        """How a connection goes on, None: it may not come in. Raises OSError."""
        if self.door is not None and not await self.door.enter(conn):
            return None
        return self.connect

    def connect(self, sock: Handed, conn: AcceptedConnection) -> None:
        """Have the loop take the socket."""
        connecting = self.loop.connect_accepted_socket(
            partial(self.server.stream, conn), cast("socket.socket", sock))
        if self.begin(sock, conn, connecting):
            conn.connecting = connecting

    def begin(
        self, sock: Handed, conn: AcceptedConnection, connecting: Coroutine[Any, None, Any]
    ) -> bool:
        """Begin the way to a protocol; whether that could be."""
        try:
            # By hand, because it waits exactly once: a task costs more than all the rest here.
            conn.waiting = connecting.send(None)
            if self.door is not None:
                self.door.connected(conn)
        except Exception:
            self.log_factory(conn)
            sock.give_up()
            return False
        return True

    def _freed(self, number: int) -> None:
        if self.door is not None:
            self.door.leave(number)
        if self.open < self.limit and self._timer is None:
            self._read()

    def log_factory(self, conn: AcceptedConnection) -> None:
        """A factory of the user's that raises costs this connection only."""
        self.log.exception("server %r: no protocol for the connection of %s", self.name, conn.peer)


def _kind_for(loop: asyncio.AbstractEventLoop) -> Callable[[socket.AddressFamily, int], Handed]:
    """What that loop is handed of a connection."""
    uvloop = sys.modules.get("uvloop")
    if uvloop and isinstance(loop, uvloop.Loop):
        return Descriptor
    from apihour.worker.tracked_socket import TrackedSocket  # read for asyncio's only

    return TrackedSocket
