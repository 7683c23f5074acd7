"""Who may begin a login: counts and rates per address, and an early drop under a flood.

Rules:

- No I/O and no clock of its own: decisions over numbers, tested as such.
- A handshake costs milliseconds of computing whoever asks, so refusing comes before it.
- A login that succeeds gives its token back: rates are for those who do not get in.
- An IPv4 address counts as itself, an IPv6 one as its /64 (one customer's network).
"""

from __future__ import annotations

import collections
import ipaddress
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Gate", "Limits", "network_of"]

_ADDRESSES = 10_000  # addresses whose rate is remembered; the longest unseen are forgotten


@dataclass(frozen=True)
class Limits:
    """The numbers; 0 turns a limit off. Rates are new connections per second.

    `startups_begin`, `startups_rate` (0 to 1) and `startups_full` are MaxStartups of
    sshd_config(5), over connections that have not logged in.
    """

    connections: int = 256
    per_address: int = 32
    rate: float = 20.0
    burst: int = 60
    address_rate: float = 8.0
    address_burst: int = 15
    startups_begin: int = 10
    startups_rate: float = 0.3
    startups_full: int = 60

    @classmethod
    def none(cls) -> Limits:
        """No limit at all, for measurements."""
        return cls(0, 0, 0.0, 0, 0.0, 0, 0, 0.0, 0)


class _Bucket:
    """A token bucket."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def give_back(self) -> None:
        self._tokens = min(self._burst, self._tokens + 1)

    def take(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Gate:
    """Counts connections from :meth:`admit` to :meth:`leave`."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits
        self.accepted = 0
        self.refused: collections.Counter[str] = collections.Counter()
        self.open = 0
        self.starting = 0
        self._clock = clock
        self._chance = chance
        self._counts: collections.Counter[str] = collections.Counter()
        self._bucket = _Bucket(limits.rate, limits.burst, clock())
        self._buckets: collections.OrderedDict[str, _Bucket] = collections.OrderedDict()

    def admit(self, address: str) -> str:
        """Count one connection in and return ``""``, or say why it is refused."""
        network = network_of(address)
        reason = self._refusal(network)
        if reason:
            self.refused[reason] += 1
            return reason
        self.accepted += 1
        self.open += 1
        self.starting += 1
        self._counts[network] += 1
        return ""

    def logged_in(self, address: str) -> None:
        """One of the admitted has logged in: it is no startup any more, and was no attack."""
        self.starting -= 1
        self._bucket.give_back()
        bucket = self._buckets.get(network_of(address))
        if bucket is not None:
            bucket.give_back()

    def leave(self, address: str, had_logged_in: bool) -> None:
        """One of the admitted is gone."""
        network = network_of(address)
        self.open -= 1
        if not had_logged_in:
            self.starting -= 1
        self._counts[network] -= 1
        if self._counts[network] <= 0:
            del self._counts[network]

    def _refusal(self, network: str) -> str:
        limits = self.limits
        if limits.connections and self.open >= limits.connections:
            return "too many connections"
        if limits.per_address and self._counts[network] >= limits.per_address:
            return "too many connections from the address"
        if self._drops_early():
            return "too many logins under way"
        now = self._clock()
        if limits.address_rate and not self._bucket_of(network, now).take(now):
            return "too fast from the address"
        if limits.rate and not self._bucket.take(now):
            return "too fast"
        return ""

    def _drops_early(self) -> bool:
        limits = self.limits
        if not limits.startups_full or self.starting < limits.startups_begin:
            return False
        if self.starting >= limits.startups_full:
            return True
        span = limits.startups_full - limits.startups_begin
        part = (self.starting - limits.startups_begin) / span
        return self._chance() < limits.startups_rate + (1 - limits.startups_rate) * part

    def _bucket_of(self, network: str, now: float) -> _Bucket:
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = _Bucket(self.limits.address_rate, self.limits.address_burst, now)
            self._buckets[network] = bucket
            if len(self._buckets) > _ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(network)
        return bucket


def network_of(address: str) -> str:
    """What an address is counted as: itself, the /64 of IPv6, the IPv4 inside ``::ffff:``."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
