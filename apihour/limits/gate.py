"""How many connections one address may have, and how fast new ones may come.

Rules:

- Who is over is told nothing: its connection is closed, or waits, unread, for its turn.
- Everything a stranger can grow has an end: addresses that are remembered, connections that
  wait, of one address and of all, and how long. Beyond it they are closed.
- A rate is that of the generic cell rate algorithm (ITU-T I.371, A.1): one number for an address.
- A peer without an address (a unix socket) is never over.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter, deque
from typing import Any

from apihour.limits.bind_options import BindOptions

__all__ = ["AddressGate", "address_key"]

_PATIENCE = 30.0  # seconds for which a connection waits for its turn
_WAITING = 1000  # connections that wait at one bind; each is a descriptor
_REMEMBERED = 65536  # addresses whose rate is known; 100 bytes each
_LINE_EVERY = 10.0  # seconds between two lines about what was refused
_NEVER = float("inf")


def address_key(peer: Any) -> str | int | None:
    """What one client has of its own: its IPv4 address, or its /64; None: it has no address."""
    if not isinstance(peer, tuple) or not peer:
        return None
    host = str(peer[0])
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return int(address) >> 64


class AddressGate:
    """Lets connections of one listener in; tells which must wait, and which are too many.

    `open` of them, of all addresses, count towards ``limit`` where that closes.
    """

    def __init__(self, name: str, options: BindOptions, log: logging.Logger) -> None:
        self.refused = 0
        self._name = name
        self._log = log
        self._last_line = -_LINE_EVERY
        self._keys: dict[int, str | int] = {}  # of the connections that were let in, by number
        self._open: Counter[str | int] = Counter()
        self._due: dict[str | int, float] = {}  # when an address will have used up nothing
        self._queues: dict[str | int, deque[asyncio.Event]] = {}
        self._waiting = 0
        self.change(options)

    def change(self, options: BindOptions) -> None:
        """From now on these hold; who is in stays."""
        self.options = options
        self._limits = options.only("limit", "per_address", "rate")
        self._most = options.per_address or 0
        self._step = self._burst = 0.0
        if options.rate is not None:
            count, seconds = options.rate
            self._step = seconds / count
            self._burst = seconds - self._step
        for queue in self._queues.values():
            queue[0].set()

    def admit(self, number: int, peer: Any) -> bool:
        """Count connection `number` in, if its address is not over."""
        key = address_key(peer)
        if key is None:
            return True
        if key in self._queues or self._delay(key) > 0:
            return False
        self._enter(number, key)
        return True

    def count(self, number: int, peer: Any) -> None:
        """Count a connection in that was there before there was a limit; each once."""
        key = address_key(peer)
        if key is not None and number not in self._keys:
            self._keys[number] = key
            self._open[key] += 1

    def leave(self, number: int) -> None:
        """That connection is closed."""
        key = self._keys.pop(number, None)
        if key is None:
            return
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
        if key in self._queues:
            self._queues[key][0].set()

    async def wait(self, number: int, peer: Any) -> bool:
        """Wait until the address is not over; False where it is not in time, or too many wait."""
        key = address_key(peer)
        if key is None:
            return True
        queue = self._queues.get(key, ())
        if self._waiting >= _WAITING or len(queue) >= max(1, self._most or self._per_burst()):
            return False
        turn = asyncio.Event()
        self._queues.setdefault(key, deque()).append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._turn(number, key, turn)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
            self._leave_queue(key, turn)
        return True

    async def _turn(self, number: int, key: str | int, turn: asyncio.Event) -> None:
        while True:
            delay = self._delay(key) if self._queues[key][0] is turn else _NEVER
            if delay <= 0:
                self._enter(number, key)
                return
            turn.clear()
            try:
                async with asyncio.timeout(min(delay, _PATIENCE)):
                    await turn.wait()
            except TimeoutError:
                continue

    def _leave_queue(self, key: str | int, turn: asyncio.Event) -> None:
        queue = self._queues[key]
        queue.remove(turn)
        if queue:
            queue[0].set()
        else:
            del self._queues[key]

    def _delay(self, key: str | int) -> float:
        """Seconds until that address may have another connection; infinite: when one goes."""
        if self._most and self._open[key] >= self._most:
            return _NEVER
        return self._due.get(key, 0.0) - self._burst - time.monotonic() if self._step else 0.0

    def _enter(self, number: int, key: str | int) -> None:
        self._keys[number] = key
        self._open[key] += 1
        if self._step:
            now = time.monotonic()
            if len(self._due) >= _REMEMBERED:
                self._forget(now)
            self._due[key] = max(now, self._due.pop(key, now)) + self._step

    def _forget(self, now: float) -> None:
        """Make room: of addresses that have used up nothing, else of a half, the oldest."""
        kept = {key: due for key, due in self._due.items() if due > now}
        while len(kept) > _REMEMBERED // 2:
            del kept[next(iter(kept))]
        self._due = kept

    def _per_burst(self) -> int:
        return 1 + round(self._burst / self._step) if self._step else 1

    def refuse(self, peer: str) -> None:
        """Count a connection that is closed, and say so now and then."""
        self.refused += 1
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            self._log.warning("server %r: connection of %s closed: over %s (%d so far)",
                              self._name, peer, self._limits, self.refused)
