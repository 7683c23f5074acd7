"""``reload --fleet``: host by host, each judged before the next, stopped at the first failure.

Rules:

- Nothing is begun while a host of the fleet is missing, or somebody else reloads it.
- A host is done when its reload is, and its health says ok; it has `_JUDGED` seconds for that.
- A host whose answer was lost is looked at: its counters say whether it was reloaded. Where they do
  not, or its arbiter ended in the middle, it is ``unknown``, and nothing more is begun.
- With `give_back` those that were reloaded are rolled back when one fails, the last one first, also
  one that is not well since. One of which that is not known is left, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from apihour.errors import ApihourError
from apihour.ops.model import CommandFailed
from apihour_console.calls.call import PARTIAL, Identity, Result
from apihour_console.fleet.host_rows import HostDeed
from apihour_console.hosts.asking import AnswerLost
from apihour_console.hosts.claims import Hold
from apihour_console.hosts.far_answers import number_in

__all__ = ["HostsAsked", "Rolling"]

_JUDGED = 20.0  # seconds in which a reloaded host must say that it is well, or a lost one anything
_AGAIN = 1.0  # seconds between two looks
_PATIENCE = 10.0  # seconds that a host may be away before it is asked
_RELOAD = 600.0  # seconds, as the command itself has
_HEALTH = 2.0
_STOPS = ("failed", "unknown")


class HostsAsked(Protocol):
    """The hosts (:class:`apihour_console.hosts.hosts.Hosts`)."""

    async def ask_any(
        self, name: str, words: Sequence[str], identity: Identity, deadline: float) -> Result: ...
    async def facts_of(self, name: str) -> Mapping[str, Any] | None: ...


class _Unknown(Exception):
    """What became of a host is not known."""


class Rolling:
    """One reload of all hosts."""

    def __init__(
        self, hosts: HostsAsked, identity: Identity, hold: Hold, options: Sequence[str] = (),
    ) -> None:
        """`options` are those of each host's reload."""
        self._hosts = hosts
        self._identity = identity
        self._hold = hold
        self._options = options
        self.deeds: dict[str, HostDeed] = {}
        self._begun: set[str] = set()
        self._reloaded: set[str] = set()

    async def roll(self, names: Sequence[str], at_once: int, give_back: bool) -> list[HostDeed]:
        """Reload those hosts, `at_once` at a time; what became of each. Raises CommandFailed."""
        for start in range(0, len(names), at_once):
            if other := await self._hold.renew():
                self._stop_for(other, names[start])
                break
            for deed in await asyncio.gather(*map(self._reload, names[start:start + at_once])):
                self.deeds[deed.host] = deed
            if any(deed.outcome in _STOPS for deed in self.deeds.values()):
                if give_back:
                    await self._give_back()
                break
        return [self.deeds.get(name, HostDeed(name, "not reached")) for name in names]

    def told(self, names: Sequence[str]) -> str:
        """How far it is, in words."""
        return ", ".join(
            f"{name} {self.deeds[name].outcome}" if name in self.deeds else
            f"{name} {'under way' if name in self._begun else 'not reached'}" for name in names)

    def _stop_for(self, other: str, name: str) -> None:
        """Somebody else has it. Raises CommandFailed when nothing was begun yet."""
        why = f"the fleet is being reloaded by {other}"
        if not self.deeds:
            raise CommandFailed(f"reload: {why}; nothing was begun, ask again when that is over")
        self.deeds[name] = HostDeed(name, "failed", None, f"{why}; nothing was begun here")

    async def _reload(self, name: str) -> HostDeed:
        started = time.monotonic()
        self._begun.add(name)

        def deed(outcome: str, problem: str = "") -> HostDeed:
            return HostDeed(name, outcome, time.monotonic() - started, problem)

        try:
            if problem := await self._change(name, "reload", *self._options):
                return deed("failed", problem)
        except _Unknown as error:
            return deed("unknown", str(error))
        self._reloaded.add(name)
        problem = await self._judge(name)
        return deed("failed", f"reloaded, and not well: {problem}") if problem else deed("done")

    async def _judge(self, name: str) -> str:
        """Why it is not well, after all the time that it has; empty when it is."""
        until = time.monotonic() + _JUDGED
        while problem := await self._try(name, ["health"], _HEALTH):
            if time.monotonic() >= until:
                break
            await asyncio.sleep(_AGAIN)
        return problem

    async def _give_back(self) -> None:
        for name in [name for name in self.deeds if name in self._reloaded][::-1]:
            started, was = time.monotonic(), self.deeds[name]
            try:
                problem = await self._change(name, "rollback")
            except _Unknown as error:
                problem = str(error)
            told = f"reloaded, and not rolled back: {problem}" if problem else was.error
            self.deeds[name] = HostDeed(name, "failed" if problem else "returned",
                                        time.monotonic() - started, told)

    async def _change(self, name: str, word: str, *options: str) -> str:
        """Reload it, or roll it back: what went wrong, empty when nothing did. Raises _Unknown."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._try(name, [word, *options], _RELOAD)
            except AnswerLost as lost:
                return await self._find_out(name, word, lost)
            except CommandFailed as error:  # nothing was begun
                if time.monotonic() >= until:
                    return str(error)
            await asyncio.sleep(_AGAIN)

    async def _find_out(self, name: str, word: str, lost: AnswerLost) -> str:
        """What the counters say that it did. Raises _Unknown."""
        until, before = time.monotonic() + _JUDGED, lost.facts
        while time.monotonic() < until:
            facts = await self._hosts.facts_of(name)
            if facts is not None and facts.get("arbiter") != before.get("arbiter"):
                raise _Unknown(f"{lost}; another arbiter serves there now")
            if facts is not None and number_in(facts, "reloads") > number_in(before, "reloads"):
                return ""
            if facts is not None and number_in(facts, "failed") > number_in(before, "failed"):
                return f"{lost}; its {word} has failed, its log says why"
            await asyncio.sleep(_AGAIN)
        raise _Unknown(f"{lost}; whether its {word} was done is not known")

    async def _try(self, name: str, words: Sequence[str], deadline: float) -> str:
        """What went wrong; empty when nothing did.

        Raises CommandFailed of kind ``timeout`` when it does not answer to what may take long,
        _Unknown when its arbiter does not.
        """
        try:
            result = await self._hosts.ask_any(name, words, self._identity, deadline)
        except ApihourError as error:
            if deadline == _RELOAD and isinstance(error, CommandFailed) and error.kind == "timeout":
                raise
            return str(error)
        if result.status == 0:
            return ""
        if result.status == PARTIAL and result.error and deadline == _RELOAD:
            raise _Unknown(result.error)  # its arbiter did not answer
        wrong = [str(row.get("error") or row.get("detail") or "") for row in result.rows
                 if row.get("outcome", row.get("status")) not in ("done", "ok", "ready")]
        reasons = [one.reason for one in result.missing]
        return result.error or "; ".join(filter(None, [*wrong, *reasons])) or f"{words[0]} failed"
