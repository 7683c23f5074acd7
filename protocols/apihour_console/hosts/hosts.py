"""The near end: the hosts of the fleet, and commands carried out on some of them at once.

Rules:

- A command is one letter to each host it is for, and one back: twice as many hosts, twice as many
  letters. Nobody sends signs of life: who is asked, answers, or is named as missing.
- Whoever came while the network was divided is met later: a command says hello again, at most every
  ten seconds, for the next one to know; where nobody is known it waits for that.
- What says that a host is there answers the very question: it is sealed with the question's nonce.
- This host is asked as any other, without the bus.
- What was sent before this console began is not obeyed: it knows not what the one before obeyed.
- A console that starts beside an old one of its daemon takes the host over by its hello: the old
  one answers no more, and says no goodbye. Until then a letter is for one of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from apihour.bus import Bus, BusError, BusMessage
from apihour.errors import ApihourError
from apihour.ops.model import Column, CommandFailed
from apihour_console.calls.call import PARTIAL, Call, Identity, Missing, Result, apply, in_time
from apihour_console.calls.parsing import parse_call
from apihour_console.fleet.host_rows import HostDeed, HostRow
from apihour_console.hosts.asking import LONG, NO_ANSWER, Asking
from apihour_console.hosts.claims import Claims
from apihour_console.hosts.far_answers import number_in, of_host
from apihour_console.hosts.far_end import FarEnd, HostFleet
from apihour_console.hosts.following import Following
from apihour_console.hosts.letter_tickets import Tickets
from apihour_console.hosts.letters import LetterError, Seal, StrangerError
from apihour_console.hosts.membership import Membership
from apihour_console.hosts.whole_fleet import demand, reload_fleet

__all__ = ["Hosts"]

_HELLO = 1.5  # seconds that hosts have to answer a hello, behind which no operator waits
_LOOK_EVERY = 10.0  # seconds between two looks for hosts that are not known
_LINE_EVERY = 10.0  # seconds between two lines about letters that are refused
_STRANGE = 600.0  # seconds that a letter of another key is told of
_TWINS = "several daemons say that they are it, and one answers; set APIHOUR_HOST of the others"


class Hosts:
    """The fleet as one host sees it; ``start()`` before use, ``close()`` after it."""

    def __init__(
        self, name: str, daemon: str, bus: Bus, seal: Seal, fleet: HostFleet,
        logger: logging.Logger, home: str = "",
    ) -> None:
        """`name`: of this host; `daemon`: of the application, whose hosts are one fleet.

        `home` is what consoles of one daemon have in common, and of no other on any machine.
        """
        self.members = Membership(name)
        self.far_end: FarEnd | None = None
        self.facts: Callable[[], Mapping[str, Any]] = dict
        """What this host tells of itself, beside its name."""
        self._name = name
        self._bus = bus
        self._seal = seal
        self._fleet = fleet
        self._logger = logger
        self._prefix = f"_apihour.fleet.{daemon}"
        self._instance = os.urandom(8).hex()
        self._home = home or self._instance
        self._asking = Asking(name, self._prefix, bus, seal, self._answer_to)
        self._tickets = Tickets(self._instance)
        self._claims = Claims()
        self._is_replaced = False
        self._began = time.time()
        self._twins: list[str] = []  # names that several daemons have
        self._reading: list[asyncio.Task[None]] = []
        self._next_line = self._next_look = 0.0
        self._stranger: float | None = None  # when a letter came that was sealed with another key
        self.doubt = "letters came that are sealed with another key, the last {:.0f} s ago"
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say hello, and learn who is there. Raises BusError."""
        if not self._reading:  # its hello may have failed before
            await self.listen()
        await self._hello(is_new=True)

    async def _hello(self, is_new: bool = False) -> None:
        self._next_look = time.monotonic() + _LOOK_EVERY
        subject = f"{self._prefix}.all"
        nonce = os.urandom(8).hex()
        hello = {"kind": "hello", "from": self._name, "instance": self._instance,
                 "home": self._home, "is_new": is_new, "nonce": nonce}
        homes: dict[str, set[str]] = {}
        for answer in await self._bus.gather(subject, self._seal.close(subject, hello), _HELLO):
            letter = self._answer_to(nonce, "hello", answer.data)
            self._meet(letter)
            if letter is not None:
                homes.setdefault(str(letter.get("from")), set()).add(str(letter.get("home")))
        homes.setdefault(self._name, set()).add(self._home)
        self._twins = [name for name, some in sorted(homes.items()) if len(some) > 1]

    async def _look(self, is_urgent: bool = False) -> None:
        """Say hello again, if it is time; waits for the answers where nobody is known."""
        if self._looking is None or self._looking.done():
            if time.monotonic() < self._next_look:
                return
            self._looking = asyncio.create_task(self._quiet_hello())
        if is_urgent or not self.members.heard:
            await asyncio.wait({self._looking})

    async def _quiet_hello(self) -> None:
        with contextlib.suppress(BusError):  # those who are asked will be missing
            await self._hello()

    async def _choose(self, patterns: str) -> list[str]:
        """Those hosts; looked for, when there is none. Raises CommandFailed."""
        await self._look()
        try:
            return self.members.choose(patterns)
        except CommandFailed:
            await self._look(is_urgent=True)
            return self.members.choose(patterns)

    async def listen(self) -> None:
        """Be there for others. Raises BusError."""
        for subject, queue in ((f"{self._prefix}.host.{self._name}", self._name),
                               (f"{self._prefix}.all", "")):
            begun = asyncio.get_running_loop().create_future()
            self._reading.append(asyncio.create_task(self._read(subject, queue, begun)))
            await begun

    async def close(self, says_bye: bool = True) -> None:
        """Leave, and say so, unless the daemon died or another console goes on for it."""
        subject = f"{self._prefix}.all"
        bye = {"kind": "bye", "from": self._name, "instance": self._instance}
        if says_bye and not self._is_replaced:
            with contextlib.suppress(BusError):
                await self._bus.publish(subject, self._seal.close(subject, bye))
        tasks = [*self._reading, *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.far_end is not None:
            await self.far_end.close()

    # -- letters that come

    async def _read(self, subject: str, queue: str, begun: asyncio.Future[None]) -> None:
        try:
            async with self._bus.subscribe(subject, queue=queue) as messages:
                begun.set_result(None)
                async for message in messages:
                    letter = self._opened(subject, message.data)
                    if letter is None:
                        continue
                    try:
                        await self._take(message, letter)
                    except Exception:  # one letter must not end what reads them
                        self._logger.exception("fleet: a letter of another host")
        except BusError as error:
            if begun.done():
                raise
            begun.set_exception(error)

    def _opened(self, subject: str, data: bytes) -> dict[str, Any] | None:
        try:
            return self._seal.open(subject, data)
        except LetterError as error:
            if isinstance(error, StrangerError):
                self._stranger = time.monotonic()
            self._refuse(str(error))
            return None

    def _refuse(self, why: str) -> None:
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _LINE_EVERY
            self._logger.warning("fleet: a letter is refused: %s", why)

    def _answer_to(self, nonce: str, subject: str, data: bytes) -> dict[str, Any] | None:
        """What an answer says, if it is one to that question; None when it is not.

        A console of an older version has no ``to`` in its answers, and is believed without.
        """
        letter = self._opened(subject, data)
        if letter is None or letter.get("to", nonce) == nonce:
            return letter
        self._refuse(f"an answer of host {letter.get('from')!r:.80} to another question")
        return None

    async def _take(self, message: BusMessage, letter: Mapping[str, Any]) -> None:
        kind, sender = letter.get("kind"), str(letter.get("from"))
        if letter.get("instance") == self._instance:
            return
        if kind == "bye":
            if not self._is_old(letter):
                self.members.forget(sender)
        elif kind in ("hello", "ping"):
            if kind == "hello":
                self._meet(letter)
                if letter.get("is_new") and not self._is_old(letter):
                    self._claims.end_of(sender)
            if self._is_replaced:
                return
            told = {**self.facts(), "kind": "here", "from": self._name, "home": self._home,
                    "instance": self._instance, "to": letter.get("nonce"),
                    "ticket": self._tickets.give()}
            await self._reply(message, str(kind), told)
        elif kind == "claim":
            told = {"from": self._name, "to": letter.get("nonce"),
                    "held": self._claims.take(letter)}
            await self._reply(message, kind, told)
        elif kind == "may" and self.far_end is not None:
            told = {"from": self._name, "to": letter.get("nonce"),
                    "refused": self.far_end.refusal(letter)}
            await self._reply(message, kind, told)
        elif kind == "how":
            told = {**self._tickets.answer(str(letter.get("nonce"))), "from": self._name}
            await self._reply(message, f"answer.{self._name}", told)
        elif kind == "ask" and self.far_end is not None:
            self.far_end.take(message, letter, self._tickets, is_old=self._is_old(letter))

    async def _reply(
        self, message: BusMessage, subject: str, content: Mapping[str, Any]) -> None:
        with contextlib.suppress(BusError):  # whoever asked has given up, or asks again
            await message.reply(self._seal.close(subject, content))

    def _is_old(self, letter: Mapping[str, Any]) -> bool:
        """Whether it was sent before this console began: the one before may have obeyed it."""
        return float(letter["time"]) < self._began

    def _meet(self, letter: Mapping[str, Any] | None) -> None:
        if letter is None or letter.get("instance") == self._instance:
            return
        name = str(letter.get("from"))
        if letter.get("home") == self._home:
            self._hand_over(letter)
        elif name == self._name:
            self._logger.error(
                "fleet: another daemon of this name says that it is host %s; expected one: set "
                "APIHOUR_HOST", name)
        else:
            self.members.hear(name)

    def _hand_over(self, letter: Mapping[str, Any]) -> None:
        if letter.get("is_new") and not self._is_old(letter):
            self._is_replaced = True
            self._reading[0].cancel()

    # -- asking

    def names(self) -> list[str]:
        """Every host that is known, this one too."""
        return self.members.names()

    def forget(self, name: str) -> bool:
        """Expect that host no more; whether it was known."""
        return self.members.forget(name)

    def doubts(self) -> list[str]:
        """What an operator should know beside who is there."""
        ago = math.inf if self._stranger is None else time.monotonic() - self._stranger
        return [self.doubt.format(ago)] if ago < _STRANGE else []

    async def rows(self) -> tuple[list[HostRow], list[Missing]]:
        """Every host, and how it does; those that do not answer are missing."""
        await self._look()
        names = self.members.names()
        found = await asyncio.gather(*(self._row(name) for name in names))
        missing = [Missing(row.host, NO_ANSWER, "host") for row in found if row.answers is None]
        return list(found), missing + self._named_twice()

    def _named_twice(self) -> list[Missing]:
        return [Missing(name, _TWINS, "host") for name in self._twins]

    async def _row(self, name: str) -> HostRow:
        started = time.monotonic()
        facts = await self.facts_of(name)
        if facts is None:
            return HostRow(name, "gone", 0, 0, "", None)
        return HostRow(name, str(facts.get("status", "")), number_in(facts, "workers"),
                       number_in(facts, "generation"), str(facts.get("version", "")),
                       time.monotonic() - started)

    async def execute(self, call: Call, identity: Identity) -> Result:
        """Carry out a call on the hosts it is for. Raises CommandFailed when there are none."""
        if call.arguments.get("fleet"):
            raise CommandFailed(f"{call.command.name}: option --host: --fleet is for all hosts; "
                                "expected one of the two", "usage")
        names = await self._choose(call.hosts)
        found = await asyncio.gather(
            *(self._on(name, call, identity) for name in names), return_exceptions=True)
        return merged(call, dict(zip(names, found, strict=True)))

    async def _on(self, name: str, call: Call, identity: Identity) -> Result:
        if name == self._name:
            return await self._fleet.execute(replace(call, hosts=""), identity)
        return await self._asking.carry_out(name, call, identity)

    async def reload(
        self, identity: Identity, at_once: int, give_back: bool, options: Sequence[str] = (),
    ) -> tuple[list[HostDeed], list[Missing]]:
        """Reload host by host; nothing is begun while one is missing.

        Raises CommandFailed where one would refuse it, or when another has begun.
        """
        refusals = partial(self._asking.refusals, ["reload", *options], identity)
        _, found = await asyncio.gather(
            self._look(is_urgent=True), refusals(self.members.names()))
        names = self.members.names()
        found |= await refusals([name for name in names if name not in found])
        missing = [Missing(name, NO_ANSWER, "host") for name, why in found.items() if why is None]
        if missing := missing + self._named_twice():
            return [HostDeed(name, "not reached") for name in names], missing
        demand("reload", found)
        return await reload_fleet(
            self, names, identity, at_once, give_back, options, self._logger), []

    @property
    def name(self) -> str:
        """Of this host."""
        return self._name

    async def claim(self, name: str, claim: Mapping[str, Any]) -> str | None:
        """Who else has what that host keeps, in words; None when it does not answer."""
        if name == self._name:
            return self._claims.take(claim)
        answer = await self._asking.tell(name, {"kind": "claim", **claim}, "claim")
        return None if answer is None else str(answer.get("held"))

    async def ask_any(
        self, name: str, words: Sequence[str], identity: Identity, deadline: float) -> Result:
        """Carry out words on that host, be it this one. Raises CommandFailed."""
        if name == self._name:
            return await self._fleet.execute(parse_call(words, self._fleet.catalogue), identity)
        return await self._asking.ask(name, words, identity, deadline)

    async def facts_of(self, name: str) -> Mapping[str, Any] | None:
        """What that host tells of itself; None when it does not answer."""
        return self.facts() if name == self._name else await self._asking.ping(name)

    # -- streams

    async def stream(
        self, call: Call, identity: Identity
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of a call of the hosts it is for, as they come. Raises CommandFailed."""
        names = await self._choose(call.hosts)

        def own() -> AsyncGenerator[dict[str, Any], None]:
            rows: AsyncGenerator[dict[str, Any], None] = self._fleet.stream(
                replace(call, hosts=""), identity)
            return rows

        async def begin(name: str, number: str) -> str:
            done = await self._asking.ask(name, call.far_words, identity, LONG, number)
            return "" if done.status == 0 else done.error or "failed"

        following = Following(self._bus, self._opened, self._seal.close, call, begin)
        async with contextlib.aclosing(following.rows(names, self._name, own)) as rows:
            async for row in rows:
                yield row


def merged(call: Call, found: Mapping[str, Result | BaseException]) -> Result:
    """One result of those of several hosts, whose rows say which they are of."""
    rows: list[dict[str, Any]] = []
    missing: list[Missing] = []
    texts: list[str] = []
    failed: list[int] = []
    columns: tuple[Column, ...] = ()
    for name, one in found.items():
        if isinstance(one, CommandFailed) and one.kind == "timeout":
            missing.append(Missing(name, str(one), "host"))
        elif isinstance(one, ApihourError):
            missing.append(Missing(name, str(one), "host"))
            failed.append(one.exit_status)
        elif isinstance(one, BaseException):
            raise one
        else:
            columns = columns or one.columns
            rows += [of_host(name, row) for row in one.rows]
            missing += [replace(each, worker=f"{name}:{each.worker}") for each in one.missing]
            if one.text is not None:
                texts.append(f"{name}:\n{one.text}")
            if one.error:
                missing.append(Missing(name, one.error, "host"))
                failed.append(one.status)
    rows = apply(replace(call, filters=()), in_time(rows) if call.command.streams else rows)
    status = failed[0] if failed else PARTIAL if missing else 0
    return Result((Column("host", "str"), *columns), rows, missing, status,
                  "\n".join(texts) if texts else None)
