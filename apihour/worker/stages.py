"""The stages of accepting on a bind with TLS or PROXY headers: see ``accept.py``.

Rule: imported where a worker has such a bind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from apihour.bind.peeking import HANDSHAKE, first_byte
from apihour.bind.peers import format_peer
from apihour.proxied.proxy_gate import ProxyGate
from apihour.worker.accept import Acceptor, Connect
from apihour.worker.connections import AcceptedConnection

if TYPE_CHECKING:
    from apihour.tls.termination import Terminator
    from apihour.worker.connections import Handed

__all__ = ["StagedAcceptor"]

_LINE_EVERY = 10.0  # seconds between two lines about handshakes


class StagedAcceptor(Acceptor):
    """`tls` ends TLS for its connections; proxies of `networks` say first whose they are.

    Either may be None; the rest is as for :class:`~apihour.worker.accept.Acceptor`.
    """

    def __init__(
        self, *args: Any, tls: Terminator | None = None, networks: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.tls = tls
        if tls is not None:
            tls.offer(getattr(self.server, "alpn", ()))
        if networks is not None:
            self.proxy = ProxyGate(networks, self.name, self.log)
        # Seconds after which a silent connection of a TLS bind is taken as plain; 0: never.
        optional = float(getattr(self.server, "optional_tls", 0.0))
        self._plain_after = 0.0 if tls is None else optional
        self.is_direct = self.proxy is None and not self._plain_after
        self._last_failure = -_LINE_EVERY

    def refuses(self, peer: Any) -> bool:
        if self.proxy is None:
            return super().refuses(peer)
        if self.proxy.trusts(peer):
            return False  # its client may be banned
        self.proxy.refuse(format_peer(peer), "it is no proxy of this bind's")
        return True

    async def admit(self, sock: Handed, conn: AcceptedConnection) -> Connect | None:
        if self.proxy is not None and (
                not await self.proxy.introduce(self.loop, conn)
                or super().refuses(conn.peer_address)):
            return None
        go_on = await super().admit(sock, conn)
        if go_on is None or not self._plain_after:
            return go_on
        conn.state = "peek"
        is_plain = await first_byte(self.loop, sock, self._plain_after) != HANDSHAKE
        return super().connect if is_plain else go_on

    def connect(self, sock: Handed, conn: AcceptedConnection) -> None:
        tls = self.tls
        if tls is None:
            super().connect(sock, conn)
            return
        connecting = tls.connect(self.loop, sock, conn, self._ready)
        if self.begin(sock, conn, connecting) and conn.waiting is not None:
            conn.waiting.add_done_callback(partial(self._attach, conn, connecting, tls))

    def _ready(self, conn: AcceptedConnection) -> asyncio.BaseProtocol:
        """The protocol of a connection whose handshake is over."""
        try:
            return self.server.stream(conn)
        except Exception:
            self.log_factory(conn)
            conn.close()
            return asyncio.Protocol()

    def _attach(
        self, conn: AcceptedConnection, connecting: Coroutine[Any, None, Any],
        tls: Terminator, waited: asyncio.Future[Any],
    ) -> None:
        """The handshake of `conn` is over, or was given up."""
        conn.waiting = None
        try:
            connecting.send(None)
        except StopIteration:
            tls.watch(self.loop, conn)
        except asyncio.CancelledError:
            return  # conn.close() gave it up, and the loop has closed the socket
        except Exception as error:
            self._handshake_failed(conn, error)

    def _handshake_failed(self, conn: AcceptedConnection, error: Exception) -> None:
        self.failed += 1
        now = time.monotonic()
        if now - self._last_failure >= _LINE_EVERY:
            self._last_failure = now
            self.log.debug("server %r: TLS handshake of %s failed: %s (%d so far)", self.name,
                           conn.peer, error or type(error).__name__, self.failed)
