"""One connection to NATS by nats-py: made when first needed, and made again for ever.

Rules:

- Whoever needs it waits as long as he says, and then has a typed error. It is tried meanwhile,
  and goes on being tried.
- What NATS says against it is logged when it changes, not at each attempt.
- Of several servers the one on this very machine is the first: who is cut off from the others is
  told so by it, and nobody else is held up by a connection to who is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import random
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from apihour.bus.nats_address import NATSAddress
from apihour.errors import ConfigurationError
from apihour.ipc.task_end import end_task

__all__ = ["NATSConnection", "NATSDownError"]

_RETRY = 0.25  # seconds between two attempts at the same server
_LOOK = 0.01  # seconds between two looks whether it is connected
_CONNECT = 2.0  # seconds that one attempt may take
_PING = 1.0  # seconds; two without an answer, and the server is taken for dead: after 3 at most


class NATSDownError(Exception):
    """It is not connected, and was not in the time that there was."""


class NATSConnection:
    """A connection for one event loop."""

    def __init__(
        self, where: str, address: NATSAddress, name: str = "apihour",
        again: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`again` hears when it is there again, and how many seconds it was not.

        Raises ConfigurationError when nats-py is not installed.
        """
        try:
            importlib.import_module("nats")
            self.errors = importlib.import_module("nats.errors")
        except ImportError as error:
            raise ConfigurationError(
                f"{where}: {address}: needs nats-py: pip install 'apihour[nats]'") from error
        self.where = f"{where} {address}"
        self._address = address
        self._name = name
        self._again = again
        self._client: Any = importlib.import_module("apihour.bus.nats_private").OrderedClient()
        self._making: asyncio.Task[None] | None = None
        self._log = logging.getLogger("gunicorn.error")
        self._said = ""
        self._is_refused = False
        self._lost = 0.0
        self.on_slow: Callable[[Any], None] = lambda subscription: None
        """Hears of a subscription of nats-py that has dropped a message."""

    async def client(self, seconds: float | None) -> Any:
        """nats-py's client, connected. Raises NATSDownError after `seconds` (None: never)."""
        if self._client.is_connected:
            return self._client
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make())
        making = self._making
        end = None if seconds is None else time.monotonic() + seconds
        while not self._client.is_connected:
            if making.cancelled() or (making.done() and self._client.is_closed):
                raise NATSDownError(f"{self.where}: closed")
            if making.done() and (error := making.exception()) is not None:
                if self._making is making:
                    self._making = None  # what nats-py refuses by itself: the next one tries again
                raise NATSDownError(f"{self.where}: {error}")
            if end is not None and time.monotonic() >= end:
                raise NATSDownError(f"{self.where}: not connected within {seconds:g} s"
                                    f"{': ' if self._said else ''}{self._said}")
            await asyncio.sleep(_LOOK)
        return self._client

    async def close(self) -> None:
        """Close it, whatever state it is in."""
        if self._making is None:
            return
        await end_task(self._making)
        if self._making.cancelled() or self._making.exception() is not None:
            return  # it never was connected
        try:
            async with asyncio.timeout(_CONNECT):
                await self._client.close()
        except (TimeoutError, self.errors.Error, OSError) as error:
            self._log.warning("%s: its close failed: %s", self.where, error)

    async def _make(self) -> None:
        options: dict[str, Any] = self._address.login()
        if self._address.credentials:
            options = {"user_credentials": self._address.credentials}
        if self._address.tls is not None:
            options["tls"] = self._address.tls
        await self._client.connect(
            await near_first(self._address.servers), dont_randomize=True, name=self._name,
            allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=_RETRY,
            connect_timeout=_CONNECT, ping_interval=_PING, error_cb=self._failed,
            disconnected_cb=self._disconnected, reconnected_cb=self._reconnected, **options)
        self._said, self._is_refused = "", False

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, self.errors.SlowConsumerError):
            self.on_slow(error.sub)
            return
        if self._is_refused and isinstance(error, OSError):
            return  # a refusal is followed by a broken pipe, which says less
        self._is_refused = not isinstance(error, OSError)
        said = str(error) or type(error).__name__
        if said != self._said:
            self._said = said
            self._log.warning("%s: %s", self.where, said)

    async def _disconnected(self) -> None:
        if not self._client.is_closed and not self._lost:
            self._lost = time.monotonic()
            self._log.warning("%s: the connection is lost", self.where)

    async def _reconnected(self) -> None:
        seconds = time.monotonic() - self._lost if self._lost else 0.0
        self._lost, self._said, self._is_refused = 0.0, "", False
        self._log.warning("%s: connected again after %.1f s", self.where, seconds)
        self._again(seconds)


async def near_first(servers: Sequence[str]) -> list[str]:
    """Those on this machine, then the others; at random among each, so that none gets all."""
    shuffled = random.sample(servers, len(servers))
    if len(shuffled) < 2:
        return shuffled
    is_near = await asyncio.gather(*(_is_near(urlsplit(one).hostname or "") for one in shuffled))
    return [one for near in (True, False)
            for one, found in zip(shuffled, is_near, strict=True) if found is near]


async def _is_near(host: str) -> bool:
    """Whether an address of that name is one of this machine: only those can be bound."""
    try:
        async with asyncio.timeout(_CONNECT):
            found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return False  # that it cannot be reached shows when it is tried
    for family, kind, _, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind) as sock:
            sock.bind(address)
            return True
    return False
