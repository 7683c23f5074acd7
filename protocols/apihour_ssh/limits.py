"""Who may begin a login: counts and rates per address, and early drops under a flood.

Rules:

- No I/O, no clock, no SSH: decisions over numbers; the caller says what time it is.
- Refusing comes before the key exchange, which costs milliseconds whoever asks.
- A login that succeeds gives its token back: the rates are for those who do not get in.
- An IPv4 address counts as itself, an IPv6 one as its /64 (one customer's network);
  a peer without an address (a unix socket) meets the limits of the whole server only.
- Memory is bounded: the networks longest unseen are forgotten.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Admission", "Limits", "TokenBucket", "network_of"]

# Networks whose rate is remembered: about 1 MB of them.
_REMEMBERED = 8192


@dataclass(frozen=True)
class Limits:
    """The numbers of one server in one worker; 0 turns a limit off.

    Rates are new connections per second. ``startups`` are begin, chance and full of
    MaxStartups in sshd_config(5), over connections that have not logged in: from `begin` on
    they are dropped with `chance`, rising to all of them at `full`. ``auth_tries`` counts
    failed attempts per connection (MaxAuthTries), ``sessions`` those open at a time on one
    connection (MaxSessions). ``idle`` seconds without a byte in any session end a
    connection; 0: never.
    """

    connections: int = 1000
    per_address: int = 64
    rate: float = 20.0
    burst: int = 60
    address_rate: float = 5.0
    address_burst: int = 20
    startups: tuple[int, float, int] = (20, 0.3, 100)
    auth_tries: int = 6
    sessions: int = 10
    idle: float = 0.0

    @classmethod
    def none(cls) -> Limits:
        """No limit at all, for measurements."""
        return cls(0, 0, 0.0, 0, 0.0, 0, (0, 0.0, 0), 0, 0, 0.0)


class TokenBucket:
    """`burst` tokens at most, filled at `rate` a second; starts full."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), now

    def take(self, now: float) -> bool:
        """Take one token if there is one; `now` is a time in seconds that never goes back."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """Put one token back."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class Admission:
    """Counts connections from :meth:`admit` to :meth:`leave`."""

    def __init__(
        self, limits: Limits, now: float, chance: Callable[[], float] = random.random
    ) -> None:
        self.limits = limits
        self.open = 0
        self.starting = 0
        self.refused: Counter[str] = Counter()
        """How many were refused, by reason."""
        self._chance = chance
        self._bucket = TokenBucket(limits.rate, limits.burst, now)
        self._counts: Counter[str] = Counter()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, address: str, now: float) -> str:
        """Count one connection in and return ``""``, or the reason why it is refused."""
        network = network_of(address)
        reason = self._refusal(network, now)
        if reason:
            self.refused[reason] += 1
            return reason
        self.open += 1
        self.starting += 1
        self._counts[network] += 1
        return ""

    def logged_in(self, address: str = "") -> None:
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

    def _refusal(self, network: str, now: float) -> str:
        limits = self.limits
        if limits.connections and self.open >= limits.connections:
            return "too many connections"
        if network and limits.per_address and self._counts[network] >= limits.per_address:
            return "too many connections from one address"
        if self._drops_early():
            return "too many logins under way"
        if network and limits.address_rate and not self._bucket_of(network, now).take(now):
            return "connections from one address come too fast"
        if limits.rate and not self._bucket.take(now):
            return "connections come too fast"
        return ""

    def _drops_early(self) -> bool:
        begin, chance, full = self.limits.startups
        if not full or self.starting < begin:
            return False
        if self.starting >= full:
            return True
        share = (self.starting - begin) / (full - begin)
        return self._chance() < chance + (1.0 - chance) * share

    def _bucket_of(self, network: str, now: float) -> TokenBucket:
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = TokenBucket(self.limits.address_rate, self.limits.address_burst, now)
            self._buckets[network] = bucket
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(network)
        return bucket


def network_of(address: str) -> str:
    """What an address counts as: itself, its /64, or ``""`` when it is no IP address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
