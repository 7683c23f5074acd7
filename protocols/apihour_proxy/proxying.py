"""What a started Proxy has decided, as its connections have it, and what they tell it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from apihour_proxy.flow import Machinery
from apihour_proxy.upstreams import Upstreams

__all__ = ["Proxying"]

_LINE_EVERY = 10.0  # seconds between two lines about connections that nobody took


class Proxying:
    """What the connections of a started Proxy have in common."""

    def __init__(
        self, shared: Machinery, upstreams: Upstreams, connect_timeout: float, retries: int,
        proxy_protocol: int, name: str, logger: logging.Logger,
    ) -> None:
        self.shared = shared
        self.upstreams = upstreams
        self.connect_timeout = connect_timeout
        self.retries = retries
        self.proxy_protocol = proxy_protocol
        self.open: set[Any] = set()
        self.retries_made = 0
        self.unserved = 0
        self.idled = 0
        self.empty = asyncio.Event()
        self.empty.set()
        self._name = name
        self._logger = logger
        self._last_line = -_LINE_EVERY

    def came(self, connection: Any) -> None:
        """It is there."""
        self.open.add(connection)
        self.empty.clear()

    def left(self, connection: Any) -> None:
        """It is over."""
        self.open.discard(connection)
        if not self.open:
            self.empty.set()

    def refuse(self, peer: str, why: str) -> None:
        """Count a connection that no upstream took, and say so now and then."""
        self.unserved += 1
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            self._logger.error("server %r: no upstream took the connection of %s: %s (%d so far)",
                               self._name, peer, why, self.unserved)

    def say(self, text: str, *words: Any) -> None:
        """Log what concerns an upstream."""
        self._logger.warning("server %r: " + text, self._name, *words)
