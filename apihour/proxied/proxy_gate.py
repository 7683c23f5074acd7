"""The PROXY stage of accepting: who the client of a proxied connection is.

Rules:

- Only trusted proxies are listened to, and they must send a header: without one the address
  in every table would be the proxy's, and a client could pass for another.
- The header is read from the socket byte for byte, before TLS and before there is a protocol;
  what comes behind it is left where it is.
- Who is not trusted, or sends no header in time, is closed at once; one line in ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from dataclasses import replace
from typing import Any

from apihour.bind.peeking import readable
from apihour.bind.trusted_proxies import TrustedProxies
from apihour.proxied.proxy_header import ProxyError, ProxyFacts, ProxyHeader

__all__ = ["ProxyGate"]

_TIMEOUT = 5.0  # seconds for the header: a proxy sends it at once
_LINE_EVERY = 10.0  # seconds between two lines about what was refused
_PEEK = 512  # bytes looked at in one go


class ProxyGate:
    """Reads the headers of one listener; `networks` is who is trusted."""

    def __init__(self, networks: str, name: str, log: logging.Logger) -> None:
        self._trusted = TrustedProxies(networks)
        self._name = name
        self._log = log
        self._last_line = -_LINE_EVERY
        self.refused = 0

    def trusts(self, peer: Any) -> bool:
        """Whether that peer may speak for others."""
        return self._trusted.trusts(peer)

    def refuse(self, peer: str, why: object) -> None:
        """Count a connection that is closed, and say so now and then."""
        self.refused += 1
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            self._log.warning("server %r: connection of %s closed: %s (%d so far)",
                              self._name, peer, why, self.refused)

    async def introduce(self, loop: asyncio.AbstractEventLoop, conn: Any) -> bool:
        """Learn who the client of `conn` is; False when its proxy does not say it."""
        conn.state = "proxy"
        try:
            conn.proxied = facts = await self.read(loop, conn)
        except (ProxyError, OSError) as error:
            self.refuse(conn.peer, error)
            return False
        if facts.source is not None:
            conn.peer_address = facts.source
        return True

    async def read(self, loop: asyncio.AbstractEventLoop, conn: Any) -> ProxyFacts:
        """The facts in the header of `conn`. Raises ProxyError or OSError."""
        sock = conn.sock
        view = socket.socket(sock.family, socket.SOCK_STREAM, fileno=sock.fileno())
        try:
            async with asyncio.timeout(_TIMEOUT):
                return replace(await _read(loop, view), proxy=conn.peer_address)
        except TimeoutError:
            raise ProxyError(f"no whole header of the PROXY protocol in {_TIMEOUT:g} s") from None
        finally:
            view.detach()


async def _read(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> ProxyFacts:
    header = ProxyHeader()
    while header.facts is None:
        try:
            seen = sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            await readable(loop, sock.fileno())
            continue
        if not seen:
            raise ProxyError("closed before its header of the PROXY protocol was whole")
        sock.recv(header.feed(seen), socket.MSG_DONTWAIT)
    return header.facts
