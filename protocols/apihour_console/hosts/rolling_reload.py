"""``reload --fleet``: host by host, each judged before the next, stopped at the first failure.

Rules:

- Nothing is begun while a host of the fleet is missing.
- A host is done when its reload is, and its health says ok; it has `_JUDGED` seconds for that.
- With `give_back` those that are done are rolled back when one fails, the last one first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from apihour.errors import ApihourError
from apihour_console.calls.call import Identity, Result
from apihour_console.fleet.host_rows import HostDeed

__all__ = ["roll"]

_JUDGED = 20.0  # seconds in which a reloaded host must say that it is well
_AGAIN = 1.0  # seconds between two looks
_RELOAD = 600.0  # seconds, as the command itself has
_HEALTH = 2.0


class HostAsked(Protocol):
    """Carries out words on a host (:meth:`apihour_console.hosts.hosts.Hosts.ask_any`)."""

    async def __call__(
        self, name: str, words: Sequence[str], identity: Identity, deadline: float) -> Result: ...


async def roll(
    ask: HostAsked, names: Sequence[str], identity: Identity, at_once: int, give_back: bool,
    options: Sequence[str] = (),
) -> list[HostDeed]:
    """Reload those hosts with `options`, `at_once` at a time; what became of each."""
    deeds: dict[str, HostDeed] = {}
    for start in range(0, len(names), at_once):
        batch = names[start:start + at_once]
        for deed in await asyncio.gather(*(
                _reload(ask, name, ["reload", *options], identity) for name in batch)):
            deeds[deed.host] = deed
        if any(deed.outcome == "failed" for deed in deeds.values()):
            if give_back:
                await _give_back(ask, deeds, identity)
            break
    return [deeds.get(name, HostDeed(name, "not reached")) for name in names]


async def _reload(
    ask: HostAsked, name: str, words: Sequence[str], identity: Identity) -> HostDeed:
    started = time.monotonic()
    problem = await _try(ask, name, words, identity, _RELOAD)
    while not problem:
        problem = await _try(ask, name, ["health"], identity, _HEALTH)
        if not problem:
            return HostDeed(name, "done", time.monotonic() - started)
        if time.monotonic() - started < _JUDGED:
            await asyncio.sleep(_AGAIN)
            problem = ""
    return HostDeed(name, "failed", time.monotonic() - started, problem)


async def _give_back(ask: HostAsked, deeds: dict[str, HostDeed], identity: Identity) -> None:
    for name in [name for name, deed in deeds.items() if deed.outcome == "done"][::-1]:
        started = time.monotonic()
        problem = await _try(ask, name, ["rollback"], identity, _RELOAD)
        deeds[name] = HostDeed(name, "returned" if not problem else "failed",
                           time.monotonic() - started, problem)


async def _try(
    ask: HostAsked, name: str, words: Sequence[str], identity: Identity, deadline: float) -> str:
    """What went wrong; empty when nothing did."""
    try:
        result = await ask(name, words, identity, deadline)
    except ApihourError as error:
        return str(error)
    if result.status == 0:
        return ""
    wrong = [str(row.get("error") or row.get("detail") or "") for row in result.rows
             if row.get("outcome", row.get("status")) not in ("done", "ok", "ready")]
    reasons = [one.reason for one in result.missing]
    return result.error or "; ".join(filter(None, [*wrong, *reasons])) or f"{words[0]} failed"
