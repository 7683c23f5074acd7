"""A reload of the whole fleet from its first question to its end, by one operator at a time.

Rules:

- Every host is asked first whether it is there and would: half a fleet is worse than none.
- One reloads at a time (:mod:`apihour_console.hosts.claims`). Who hangs up begins nothing more, and
  the log says how far it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Identity
from apihour_console.fleet.host_rows import HostDeed
from apihour_console.hosts.claims import Hold, held
from apihour_console.hosts.rolling_reload import HostsAsked, Rolling

__all__ = ["demand", "reload_fleet"]

_TOLD = 5  # hosts that refuse, in one line


class HostsClaimed(HostsAsked, Protocol):
    """The hosts (:class:`apihour_console.hosts.hosts.Hosts`)."""

    @property
    def name(self) -> str: ...
    async def claim(self, name: str, claim: Mapping[str, Any]) -> str | None: ...


async def reload_fleet(
    hosts: HostsClaimed, names: Sequence[str], identity: Identity, at_once: int, give_back: bool,
    options: Sequence[str], logger: logging.Logger,
) -> list[HostDeed]:
    """Reload those hosts; what became of each.

    Raises CommandFailed when another has begun.
    """
    hold = Hold(partial(hosts.claim, names[0]), identity.name, hosts.name)
    rolling = Rolling(hosts, identity, hold, options)
    try:
        async with held(hold):
            return await rolling.roll(names, at_once, give_back)
    except asyncio.CancelledError:  # whoever asked has hung up, and hears nothing any more
        logger.warning("fleet: reload of all by %s ended early: %s", identity.name,
                       rolling.told(names))
        raise


def demand(word: str, found: Mapping[str, str | None]) -> None:
    """Raises CommandFailed when a host refuses: half a fleet is worse than none."""
    told = [f"host {name}: {why}" for name, why in found.items() if why]
    if told:
        more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        raise CommandFailed(
            f"{word}: nothing was begun: {'; '.join(told[:_TOLD])}{more}", "role")
