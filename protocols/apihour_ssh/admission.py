"""Who may begin a login, when, and who makes room for it.

Rules:

- No I/O, no clock, no SSH: decisions over numbers; the caller says what time it is.
- Three rooms, one after the other: who has said nothing yet, who has asked (has sent its
  version) and waits for its turn, who has begun a login. Each overflows by itself only: who
  holds connections costs nobody a turn, who asks ends no login under way.
- A turn is what costs, a key exchange of milliseconds whoever asks: turns are rationed.
- Strangers have rooms and turns in common; networks from which somebody has logged in have
  another room, and each of these its own rate: no stranger can take anything of theirs.
- A room that is full takes in the next all the same; one of it ends: that of a network with
  many first, then of one whose last login came to nothing, then the oldest; one that offered
  an authorised key last. Turns go to those first whose last login did not come to nothing.
- A login that succeeds gives its tokens back: the rates are for those who do not get in.
- Memory is bounded: the networks longest unseen are forgotten.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import Enum

from apihour_ssh.limits import Limits, TokenBucket, network_of

__all__ = ["Admission", "Room", "Ticket"]

# Networks whose rate, or whose failure, is remembered: about 1 MB of them.
_REMEMBERED = 8192
# Logins under way that one network may have without being taken for the cause of a flood.
_FEW = 4
# Seconds for which a network whose login came to nothing stands behind the others.
_IN_VAIN = 60.0


class Room(Enum):
    """Where a connection is until it has logged in; networks that are known have one only."""

    SILENT = "it has said nothing"
    ASKING = "it waits for its turn"
    BEGUN = "its login is under way"
    KNOWN = "of a network that is known"


@dataclass(eq=False, slots=True)
class Ticket:
    """One connection, from :meth:`Admission.admit` to :meth:`Admission.leave`.

    `refused`: why it may not stay, or ``""``. Whoever asked sets `end`, which ends the
    connection at once when another needs its place. `since`: when it came.
    """

    address: str
    network: str
    known: bool
    since: float = 0.0
    refused: str = ""
    end: Callable[[], object] | None = None
    room: Room = Room.SILENT
    begun: bool = False
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
        self._rooms: dict[Room, dict[Ticket, None]] = {room: {} for room in Room}  # oldest first
        # Who waits for a turn, in this order, and the first who asked first: of networks that
        # are known, of others, of those whose last login came to nothing.
        self._asking: tuple[dict[Ticket, None], ...] = ({}, {}, {})
        self._buckets: OrderedDict[tuple[str, bool], TokenBucket] = OrderedDict()
        self._in_vain: OrderedDict[str, float] = OrderedDict()

    @property
    def starting(self) -> int:
        """Connections that have not logged in."""
        return sum(map(len, self._rooms.values()))

    def admit(self, address: str, now: float) -> Ticket:
        """Count one connection in, or say in its ticket why it is refused."""
        network = network_of(address)
        ticket = Ticket(address, network, bool(network) and network in self._known, now)
        ticket.refused = self._crowded(ticket)
        if ticket.refused:
            self.refused[ticket.refused] += 1
            return ticket
        self.open += 1
        self._counts[network] += 1
        strangers = self._strangers() if self._is_full(ticket, 0) else []
        self._enter(ticket, Room.SILENT)
        if self._is_over_its_share(ticket, 0):
            self._end_one(self._under_way(ticket.network), ticket)
        elif self._is_full(ticket, 0):
            self._end_one(strangers, ticket)
        return ticket

    def ask(self, ticket: Ticket, now: float) -> None:
        """It has sent its version, and would begin a login: see :meth:`turn`."""
        if not ticket.left:
            self._asking[0 if ticket.known else 1 + self._failed(ticket, now)][ticket] = None
            self._enter(ticket, Room.ASKING)

    def turn(self, now: float) -> tuple[Ticket | None, float]:
        """Whose turn it is, if anybody's, and the seconds until the next look (0.0: at once).

        The ticket that it returns has begun; without one, infinite seconds mean: nobody asks.
        """
        known, *strangers = self._asking
        soonest = self._first_turn(known, now)
        if soonest > 0.0 and any(strangers):
            # Costs the same however many ask: in a flood there is no token for most of them.
            common = self._bucket.wait(now) if self._bucket is not None else 0.0
            own = min(self._first_turn(one, now) for one in strangers) if common <= 0.0 else 0.0
            soonest = min(soonest, max(common, own))
        if soonest > 0.0:
            return None, soonest
        ticket = next(one for asking in self._asking for one in asking
                      if self._own_wait(one, now) <= 0.0)
        self._begin(ticket, now)
        return ticket, 0.0

    def _first_turn(self, asking: dict[Ticket, None], now: float) -> float:
        """Seconds until the first of them has a token of its own; infinite: nobody asks."""
        soonest = math.inf
        for ticket in asking:
            soonest = min(soonest, self._own_wait(ticket, now))
            if soonest <= 0.0:
                break
        return soonest

    def offer(self, ticket: Ticket) -> None:
        """It has offered a key that is authorised, and has yet to prove that it has it."""
        ticket.offered = True

    def log_in(self, ticket: Ticket) -> None:
        """It has logged in: it is no startup any more, and was no attack."""
        ticket.logged_in = True
        self._rooms[ticket.room].pop(ticket, None)
        self._in_vain.pop(ticket.network, None)
        for bucket in (self._buckets.get((ticket.network, ticket.known)),
                       None if ticket.known else self._bucket):
            if bucket is not None:
                bucket.give_back()

    def leave(self, ticket: Ticket) -> None:
        """It is gone; saying so again changes nothing."""
        if ticket.left or ticket.refused:
            return
        ticket.left = True
        for asking in self._asking:
            asking.pop(ticket, None)
        self._rooms[ticket.room].pop(ticket, None)
        self.open -= 1
        self._counts[ticket.network] -= 1
        if self._counts[ticket.network] <= 0:
            del self._counts[ticket.network]
        if ticket.begun and not (ticket.logged_in or ticket.offered) and ticket.network:
            self._in_vain[ticket.network] = ticket.since
            self._in_vain.move_to_end(ticket.network)
            if len(self._in_vain) > _REMEMBERED:
                self._in_vain.popitem(last=False)

    # Whose turn it is.

    def _failed(self, ticket: Ticket, now: float) -> bool:
        """Whether the last login from there came to nothing, a short time ago."""
        return self._in_vain.get(ticket.network, -_IN_VAIN) > now - _IN_VAIN

    def _own_wait(self, ticket: Ticket, now: float) -> float:
        bucket = self._bucket_of(ticket, now)
        return bucket.wait(now) if bucket is not None else 0.0

    def _begin(self, ticket: Ticket, now: float) -> None:
        for bucket in (self._bucket_of(ticket, now), None if ticket.known else self._bucket):
            if bucket is not None:
                bucket.reserve()
        ticket.begun = True
        for asking in self._asking:
            asking.pop(ticket, None)
        self._enter(ticket, Room.BEGUN)

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

    # What is refused, and who makes room.

    def _crowded(self, ticket: Ticket) -> str:
        """Why there is no room that a login under way could make."""
        if self._is_full(ticket, 1) and not self._strangers():
            return "too many connections"
        if self._is_over_its_share(ticket, 1) and not self._under_way(ticket.network):
            return "too many connections from one address"
        return ""

    def _enter(self, ticket: Ticket, room: Room) -> None:
        """Move to a room, and end another there that is one too many with it."""
        self._rooms[ticket.room].pop(ticket, None)
        ticket.room = Room.KNOWN if ticket.known else room
        there = self._rooms[ticket.room]
        there[ticket] = None
        most = self._most(ticket.room)
        if most and len(there) > most:
            self._end_one(list(there), ticket)

    def _most(self, room: Room) -> int:
        limits = self.limits
        return {Room.BEGUN: limits.startups, Room.KNOWN: limits.reserved}.get(room, limits.waiting)

    def _end_one(self, candidates: list[Ticket], newcomer: Ticket) -> None:
        # min() takes the oldest of equals.
        victim = min((one for one in candidates if one is not newcomer), default=newcomer,
                     key=lambda one: (-self._weight(one.network), one.offered,
                                      not self._failed(one, newcomer.since)))
        self.leave(victim)
        self.refused["ended to make room for another login"] += 1
        if victim.end is not None:
            victim.end()

    def _weight(self, network: str) -> int:
        """How many it has open, where they are many."""
        return max(self._counts[network], _FEW) if network else _FEW

    def _strangers(self) -> list[Ticket]:
        """Those who have come least far: of the first room where there are any."""
        rooms = (Room.SILENT, Room.ASKING, Room.BEGUN)
        return next((list(self._rooms[one]) for one in rooms if self._rooms[one]), [])

    def _under_way(self, network: str) -> list[Ticket]:
        return [one for room in self._rooms.values() for one in room if one.network == network]

    def _is_over_its_share(self, ticket: Ticket, more: int) -> bool:
        most = self.limits.per_address
        return bool(most and ticket.network and self._counts[ticket.network] + more > most)

    def _is_full(self, ticket: Ticket, more: int) -> bool:
        most = self.limits.connections
        return bool(most and self.open + more > most + ticket.known * self.limits.reserved)
