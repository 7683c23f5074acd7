"""Asking one host, and staying with it until it has answered.

Rules:

- A host has 0.8 seconds to show that it hears, before it is waited for longer: who is gone is named
  within two, with the login to a loaded machine. One that answers at once is asked nothing more,
  any other is asked again meanwhile (:mod:`apihour_console.hosts.insisting`).
- What may take over half a minute is asked after, soon at first, then every two seconds: what
  never came there is sent again, an answer that was lost comes again. Of who gives no sign for ten
  seconds it is not known what became of it, and that is said.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from apihour.bus import Bus, BusError, NoResponderError
from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Call, Identity, Result
from apihour_console.hosts.far_answers import read_result
from apihour_console.hosts.insisting import (
    AGAIN,
    Insisting,
    Said,
    SilentError,
    SlowError,
    cancel,
    first_answer,
    within,
)
from apihour_console.hosts.letter_tickets import FRESH
from apihour_console.hosts.letters import Seal

__all__ = ["HEARS", "LONG", "NO_ANSWER", "AnswerLost", "Asking"]

HEARS = 0.8  # seconds a host has to show that it hears
NO_ANSWER = "no answer in time: it, its console or the way to it is gone"
LONG = 2.0  # seconds from which on that is asked first
_MORE = 0.3  # seconds on top of what its workers have
_STAYS = 30.0  # seconds from which on it is asked how far it is
_EVERY = 2.0  # seconds between two such questions
_SILENT = 10.0  # seconds without a sign
_SLOW = "it is there, and has not answered within {:g} s"
_LOST = "no answer, and no sign of it for 10 s: it, its console or the way to it is gone"
_NEVER_CAME = "what it was asked never came there; nothing was begun"

AnswerTo = Callable[[str, str, bytes], dict[str, Any] | None]
"""Reads an answer to the letter of that nonce, sealed for that subject; None when it is none."""


class AnswerLost(CommandFailed):
    """A host was asked, and what became of it is not known; `facts` are those from before."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(_LOST, "timeout")
        self.facts = facts


class Asking:
    """The letters from one host to others."""

    def __init__(self, name: str, prefix: str, bus: Bus, seal: Seal, answer_to: AnswerTo) -> None:
        self._name = name
        self._prefix = prefix
        self._bus = bus
        self._seal = seal
        self._answer_to = answer_to

    async def tell(
        self, name: str, content: Mapping[str, Any], answer: str, seconds: float = HEARS,
    ) -> Said | None:
        """What a host says to a letter, sealed for `answer`; None when it says nothing.

        The letter may be about that of a ``nonce``; else it has one of its own. It is sent again
        where nothing is said: it must be one that may come twice.
        """
        asked = {"from": self._name, "nonce": os.urandom(8).hex(), **content}
        return await first_answer(partial(self._say, name, asked, answer), seconds)

    async def _say(
        self, name: str, asked: Mapping[str, Any], answer: str, seconds: float,
    ) -> Said | None:
        """What a host says to a letter that is sent once; None when it says nothing good."""
        subject = f"{self._prefix}.host.{name}"
        try:
            async with asyncio.timeout(seconds):  # whatever the bus is at
                message = await self._bus.request(
                    subject, self._seal.close(subject, asked), seconds)
        except (BusError, TimeoutError):
            return None
        found = self._answer_to(str(asked["nonce"]), answer, message.data)
        if found is None or name not in (found.get("from"), found.get("host")):
            return None
        return found

    async def ping(self, name: str, seconds: float = HEARS) -> Said | None:
        """What that host tells of itself; None when it does not answer."""
        return await self.tell(name, {"kind": "ping"}, "ping", seconds)

    async def refusals(
        self, words: Sequence[str], identity: Identity, names: Sequence[str],
    ) -> dict[str, str | None]:
        """Why each other host would not carry those out; empty: it would, None: no answer."""
        asked = {"kind": "may", "words": list(words), "who": _who(identity)}
        others = [name for name in names if name != self._name]
        answers = await asyncio.gather(*(self.tell(name, asked, "may") for name in others))
        return {name: None if answer is None else str(answer.get("refused"))
                for name, answer in zip(others, answers, strict=True)}

    async def carry_out(self, name: str, call: Call, identity: Identity) -> Result:
        """What that host answers to a call. Raises as :meth:`ask` does."""
        return await self.ask(name, call.far_words, identity, call.time_allowed,
                              acts=call.may_act)

    async def ask(
        self, name: str, words: Sequence[str], identity: Identity, deadline: float,
        stream: str = "", *, acts: bool = False,
    ) -> Result:
        """What that host answers; what `acts` is not begun there when it comes late.

        Raises CommandFailed, of kind ``timeout`` when it does not; AnswerLost when it may have
        begun nevertheless.
        """
        facts = await self._facts(name) if acts or deadline > LONG else {}
        asked = {
            "kind": "ask", "from": self._name, "words": list(words), "nonce": os.urandom(8).hex(),
            "who": _who(identity), "stream": stream, "ticket": facts.get("ticket")}
        if deadline > _STAYS:
            return read_result(await self._stay(name, asked, deadline, facts))
        return read_result(await self._insist(name, asked, deadline + _MORE, facts))

    async def _facts(self, name: str) -> Mapping[str, Any]:
        facts = await self.ping(name)
        if facts is None:
            raise CommandFailed(NO_ANSWER, "timeout")
        return facts

    async def _insist(
        self, name: str, asked: Mapping[str, Any], seconds: float, facts: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """The answer of a host that hears. Raises CommandFailed."""
        insisting = Insisting(
            partial(self._say, name, asked, f"answer.{name}"),
            partial(self.tell, name, {"kind": "how", "nonce": asked["nonce"]}, f"answer.{name}"),
            lambda state: not facts or _is_same(state, facts))
        try:
            return await insisting.answer(HEARS, seconds)
        except SilentError:
            raise CommandFailed(NO_ANSWER, "timeout") from None
        except SlowError:
            raise CommandFailed(_SLOW.format(seconds), "timeout") from None

    async def _stay(
        self, name: str, content: Mapping[str, Any], deadline: float, facts: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """The answer, asked for again and again. Raises CommandFailed, AnswerLost.

        While nobody is there to get it, it is sent again for the time that a host has to show
        that it hears.
        """
        asking: set[asyncio.Task[Said | None]] = set()
        began = sign = time.monotonic()
        pause, sent, unheard, is_wanted = AGAIN, 0, 0, True
        try:
            while (now := time.monotonic()) - sign < _SILENT and now - began < deadline:
                if is_wanted:
                    sent += 1
                    asking.add(asyncio.ensure_future(self._send(name, content, deadline)))
                try:
                    answer = await within(pause, asking)
                except NoResponderError as error:
                    unheard += 1
                    if unheard == sent and time.monotonic() - began > HEARS:
                        raise CommandFailed(NO_ANSWER, "timeout") from error
                    await asyncio.sleep(pause)
                    continue
                answer = answer or await self._after(name, str(content["nonce"]))
                state, pause = answer.get("state", "done"), min(2 * pause, _EVERY)
                if state == "done":
                    return answer
                if state == "begun":
                    sign = time.monotonic()
                is_wanted = state == "unknown" and _is_same(answer, facts)
                if is_wanted and time.monotonic() - began > FRESH + _EVERY:
                    raise CommandFailed(_NEVER_CAME, "timeout")
            raise AnswerLost(facts)
        finally:
            await cancel(asking)

    async def _send(
        self, name: str, content: Mapping[str, Any], seconds: float) -> Said | None:
        """The answer to a letter; None: not yet. Raises NoResponderError: it came to nobody."""
        subject = f"{self._prefix}.host.{name}"
        try:
            message = await self._bus.request(
                subject, self._seal.close(subject, content), seconds)
        except NoResponderError:
            raise
        except BusError:
            return None
        return self._answer_to(str(content["nonce"]), f"answer.{name}", message.data)

    async def _after(self, name: str, nonce: str) -> Mapping[str, Any]:
        """How far it is, as it says, by its ``state``."""
        return await self.tell(
            name, {"kind": "how", "nonce": nonce}, f"answer.{name}") or {"state": "silent"}


def _who(identity: Identity) -> dict[str, Any]:
    return {**asdict(identity), "role": str(identity.role)}


def _is_same(answer: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the console that answers is the one that gave the ticket."""
    ticket = facts.get("ticket")
    return isinstance(ticket, list) and ticket[:1] == [answer.get("instance")]
