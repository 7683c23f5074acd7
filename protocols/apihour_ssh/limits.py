"""The numbers that a server of SSH holds its clients to, and the arithmetic of rates.

Rules:

- No I/O, no clock, no SSH: the caller says what time it is.
- An IPv4 address counts as itself, an IPv6 one as its /64 (one customer's network);
  a peer without an address (a unix socket) is of no network.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields

__all__ = ["Limits", "TokenBucket", "network_of"]


@dataclass(frozen=True)
class Limits:
    """The numbers of one server in one worker; 0 turns a limit off.

    Rates are logins begun per second; one that comes faster waits its turn. Of strangers
    ``startups`` may have a login under way, ``waiting`` may wait for their turn, and as many
    may have said nothing yet: one more ends the oldest of those. ``reserved``: as many again
    for networks from which somebody has logged in before; ``rate`` and ``burst`` are then each
    network's own.
    ``auth_tries`` counts failed attempts per connection (MaxAuthTries of sshd_config(5)),
    ``sessions`` those open at a time on one connection (MaxSessions). ``idle`` seconds
    without a byte in any session end a connection; 0: never.

    Raises TypeError for a limit that is no number, 0 or more.
    """

    connections: int = 1000
    per_address: int = 64
    rate: float = 20.0
    burst: int = 60
    address_rate: float = 5.0
    address_burst: int = 20
    startups: int = 100
    reserved: int = 50
    waiting: int = 250
    auth_tries: int = 6
    sessions: int = 10
    idle: float = 0.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, (int, float)) or value < 0:
                raise TypeError(f"{one.name}={value!r}; expected a number, 0 or more")

    @classmethod
    def none(cls) -> Limits:
        """No limit at all, for measurements."""
        return cls(*[0] * len(fields(cls)))


class TokenBucket:
    """`burst` tokens at most, filled at `rate` a second; starts full.

    `now` is always a time in seconds that never goes back.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), now

    def wait(self, now: float) -> float:
        """Seconds until there is a token for one more; 0.0 when it is there."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def reserve(self) -> None:
        """Take a token, one that is still to come if need be."""
        self._tokens -= 1.0

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        if self.wait(now) > 0.0:
            return False
        self.reserve()
        return True

    def give_back(self) -> None:
        """Put one token back."""
        self._tokens = min(self._burst, self._tokens + 1.0)


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
