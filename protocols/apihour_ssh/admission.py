"""Who may begin a login, when, and who makes room for it.

Rules:

- No I/O, no clock, no SSH: decisions over numbers; the caller says what time it is.
- Waiting and refusing come before the key exchange, which costs milliseconds whoever asks.
- Strangers are held to one share of the server, networks from which somebody has logged in
  to another, and each of these to its own rate: no stranger can take anything of theirs.
- A share that is full takes in the next all the same; the oldest login under way ends, that
  of a network with many first, and one that offered an authorised key last. So nobody locks
  others out by holding connections.
- A login that succeeds gives its tokens back: the rates are for those who do not get in.
- Memory is bounded: the networks longest unseen are forgotten.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass

from apihour_ssh.limits import Limits, TokenBucket, network_of

__all__ = ["Admission", "Ticket"]

# Networks whose rate is remembered: about 1 MB of them.
_REMEMBERED = 8192
# A connection that came too fast waits so long at most, in seconds: clients wait 15 s for the
# version of a server (paramiko), and a person not much longer.
_LONGEST_WAIT = 5.0
# Logins under way that one network may have without being taken for the cause of a flood.
_FEW = 4


@dataclass(eq=False, slots=True)
class Ticket:
    """One connection, from :meth:`Admission.admit` to :meth:`Admission.leave`.

    `refused`: why it may not stay, or ``""``. `delay`: seconds after which it is its turn.
    Whoever asked sets `end`, which ends the connection at once when another needs its place.
    """

    address: str
    network: str
    known: bool
    refused: str = ""
    delay: float = 0.0
    end: Callable[[], object] | None = None
    offered: bool = False
    logged_in: bool = False
    left: bool = False


class Admission:
    """Counts connections. `known` has the networks from which somebody has logged in."""

    def __init__(self, limits: Limits, now: float, known: Container[str] = ()) -> None:
        self.limits = limits
        self.open = 0
        self.refused: Counter[str] = Counter()
        """How many were refused, or ended for others, by reason."""
        self._known = known
        self._bucket = TokenBucket(limits.rate, limits.burst, now) if limits.rate else None
        self._counts: Counter[str] = Counter()
        self._startups: dict[Ticket, None] = {}  # oldest first
        self._buckets: OrderedDict[tuple[str, bool], TokenBucket] = OrderedDict()

    @property
    def starting(self) -> int:
        """Connections that have not logged in."""
        return len(self._startups)

    def admit(self, address: str, now: float) -> Ticket:
        """Count one connection in, or say in its ticket why it is refused."""
        network = network_of(address)
        ticket = Ticket(address, network, bool(network) and network in self._known)
        ticket.refused = self._crowded(ticket) or self._too_fast(ticket, now)
        if ticket.refused:
            self.refused[ticket.refused] += 1
            return ticket
        self.open += 1
        self._counts[network] += 1
        self._startups[ticket] = None
        self._make_room(ticket)
        return ticket

    def offer(self, ticket: Ticket) -> None:
        """It has offered a key that is authorised, and has yet to prove that it has it."""
        ticket.offered = True

    def log_in(self, ticket: Ticket) -> None:
        """It has logged in: it is no startup any more, and was no attack."""
        ticket.logged_in = True
        self._startups.pop(ticket, None)
        for bucket in (self._buckets.get((ticket.network, ticket.known)),
                       None if ticket.known else self._bucket):
            if bucket is not None:
                bucket.give_back()

    def leave(self, ticket: Ticket) -> None:
        """It is gone; saying so again changes nothing."""
        if ticket.left or ticket.refused:
            return
        ticket.left = True
        self._startups.pop(ticket, None)
        self.open -= 1
        self._counts[ticket.network] -= 1
        if self._counts[ticket.network] <= 0:
            del self._counts[ticket.network]

    # What is refused.

    def _crowded(self, ticket: Ticket) -> str:
        """Why there is no room that a login under way could make."""
        if self._is_full(ticket, 1) and not any(not one.known for one in self._startups):
            return "too many connections"
        if self._is_over_its_share(ticket, 1) and not self._under_way(ticket.network):
            return "too many connections from one address"
        return ""

    def _too_fast(self, ticket: Ticket, now: float) -> str:
        """Reserve the tokens of a connection and set its delay, or say why it is refused."""
        own = self._bucket_of(ticket, now)
        common = None if ticket.known else self._bucket
        own_wait = own.wait(now) if own is not None else 0.0
        wait = max(own_wait, common.wait(now) if common is not None else 0.0)
        if wait > _LONGEST_WAIT:
            return ("connections from one address come too fast" if own_wait > _LONGEST_WAIT
                    else "connections come too fast")
        for bucket in (own, common):
            if bucket is not None:
                bucket.reserve()
        ticket.delay = wait
        return ""

    def _bucket_of(self, ticket: Ticket, now: float) -> TokenBucket | None:
        limits, key = self.limits, (ticket.network, ticket.known)
        rate, burst = ((limits.rate, limits.burst) if ticket.known
                       else (limits.address_rate, limits.address_burst))
        if not ticket.network or not rate:
            return None
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(rate, burst, now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    # Who makes room.

    def _make_room(self, ticket: Ticket) -> None:
        """End a login under way for `ticket` where a share is overdrawn by it."""
        most = self.limits.reserved if ticket.known else self.limits.startups
        share = [one for one in self._startups if one.known is ticket.known]
        if self._is_over_its_share(ticket, 0):
            self._end_one(self._under_way(ticket.network), ticket)
        elif most and len(share) > most:
            self._end_one(share, ticket)
        elif self._is_full(ticket, 0):
            self._end_one([one for one in self._startups if not one.known], ticket)

    def _end_one(self, candidates: list[Ticket], newcomer: Ticket) -> None:
        weights = Counter(one.network for one in candidates if one.network)
        # min() takes the oldest of equals.
        victim = min((one for one in candidates if one is not newcomer), default=newcomer,
                     key=lambda one: (-max(weights[one.network], _FEW), one.offered))
        self.leave(victim)
        self.refused["ended to make room for another login"] += 1
        if victim.end is not None:
            victim.end()

    def _under_way(self, network: str) -> list[Ticket]:
        return [one for one in self._startups if one.network == network]

    def _is_over_its_share(self, ticket: Ticket, more: int) -> bool:
        most = self.limits.per_address
        return bool(most and ticket.network and self._counts[ticket.network] + more > most)

    def _is_full(self, ticket: Ticket, more: int) -> bool:
        most = self.limits.connections
        return bool(most and self.open + more > most + ticket.known * self.limits.reserved)
