"""The upstreams that there are now, how they are doing, and which takes the next connection.

Rules:

- Those that are up come first, of them the lowest priority (RFC 2782), of those the one with the
  fewest connections for its weight; equals take turns. One that is down is tried when no other is
  left.
- An upstream that DNS names no more gets no new connection; those it has go on.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

from apihour_proxy.lookup import Found

__all__ = ["Upstream", "Upstreams"]

_LIGHT = 0.01  # what a weight of 0 counts as: "a very small chance" (RFC 2782)


class Upstream:
    """One address, and its figures since it was found; sizes in bytes."""

    __slots__ = ("accepted", "address", "connections", "failed", "failures", "family", "name",
                 "priority", "received", "seen", "sent", "turn", "up", "weight")

    def __init__(self, found: Found) -> None:
        self.family, self.address, self.name = found.family, found.address, found.name
        self.priority, self.weight = found.priority, found.weight or _LIGHT
        self.up = True
        self.failures = 0
        """Since the last success."""
        self.turn = random.random()
        """Grows with each choice of it: workers that start together begin with another one each."""
        self.seen = 0
        """The value of `accepted` when it was last looked at."""
        self.connections = self.accepted = self.failed = self.sent = self.received = 0


class Upstreams:
    """All of one Proxy; one is down after `fails` failures in a row."""

    def __init__(self, fails: int) -> None:
        self._fails = fails
        self._all: dict[str, Upstream] = {}
        self._turn = 0
        self._left: list[Upstream] = []  # named no more, with connections
        self.say: Callable[..., None] = logging.getLogger("apihour_proxy").warning

    def __iter__(self) -> Any:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def update(self, found: Iterable[Found]) -> None:
        """These it is now; who was there before keeps figures and state."""
        before, self._all = self._all, {}
        for one in found:
            upstream = before.pop(one.name, None) or Upstream(one)
            upstream.priority, upstream.weight = one.priority, one.weight or _LIGHT
            self._all[one.name] = upstream
        self._left = [one for one in (*self._left, *before.values()) if one.connections]

    def choose(self, tried: Collection[Upstream] = ()) -> Upstream | None:
        """Who takes the next connection; None when all were tried."""
        self._turn += 1
        best: Upstream | None = None
        least: tuple[Any, ...] = ()
        for one in self._all.values():
            if one in tried:
                continue
            rank = (not one.up, one.priority, (one.connections + 1) / one.weight, one.turn)
            if best is None or rank < least:
                best, least = one, rank
        if best is not None:
            best.turn = self._turn
        return best

    def succeeded(self, upstream: Upstream) -> None:
        """It took a connection."""
        upstream.failures = 0
        if not upstream.up:
            upstream.up = True
            self.say("upstream %s is up again", upstream.name)

    def failed(self, upstream: Upstream, why: object) -> None:
        """It did not."""
        upstream.failures += 1
        if upstream.up and upstream.failures >= self._fails:
            upstream.up = False
            self.say("upstream %s is down: %s", upstream.name, why)

    def statistics(self) -> dict[str, dict[str, float]]:
        """By figure and upstream; those named no more while they have connections."""
        figures: dict[str, dict[str, float]] = {}
        for one in (*self._all.values(), *self._left):
            for figure, value in (
                ("up", int(one.up)), ("connections", one.connections), ("accepted", one.accepted),
                ("failed", one.failed), ("bytes_in", one.received), ("bytes_out", one.sent),
            ):
                figures.setdefault(f"upstream_{figure}", {})[one.name] = value
        return figures
