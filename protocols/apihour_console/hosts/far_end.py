"""The far end: what another host's console asks is checked again here, carried out, and answered.

Rules:

- The operator's key must be authorised here too; what they may do is the lesser of both roles.
  A local user of another host (``apihour ctl``) has no key, and gets nothing here.
- It is audited here as it is there, with the host that it came through.
- A letter that was sent again is carried out once: what comes after the first of its nonce is not
  answered, whoever asked can ask how far that is.
- Streams go on only while the asker says every two seconds that it still reads, in a sealed
  letter, and while the operator's key is still authorised here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

from apihour.bus import Bus, BusError, BusMessage
from apihour.errors import ApihourError
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed, Role
from apihour_console.calls.call import FAILED, PARTIAL, Call, Identity, Result, RoleError
from apihour_console.calls.parsing import parse_call
from apihour_console.hosts.insisting import first_answer
from apihour_console.hosts.letter_tickets import ANOTHER, Tickets
from apihour_console.hosts.letters import MOST, LetterError, Seal
from apihour_console.keys.authorized import AuthorizedKeys
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.hidden import hide_secrets

__all__ = ["FarEnd", "HostFleet", "to_letter"]

_AT_ONCE = 64  # commands of other hosts at one time
_HOLD = 2.0  # seconds between two signs of an asker that reads a stream
_CUT = "rows were left out, over {:,} bytes; choose fewer by --limit or --filter"


class HostFleet(Protocol):
    """What is asked of the daemon's own fleet."""

    @property
    def catalogue(self) -> Catalogue: ...
    async def execute(self, call: Call, identity: Identity) -> Result: ...
    def stream(self, call: Call, identity: Identity) -> Any: ...


def to_letter(result: Result) -> dict[str, Any]:
    """A result as a letter holds it: what does not fit is left out, and it says so."""
    found: dict[str, Any] = {
        "columns": [[one.name, one.type] for one in result.columns], "rows": result.rows,
        "missing": [asdict(one) for one in result.missing], "status": result.status,
        "text": result.text, "error": result.error, "detail": result.detail[:10_000]}
    kept = _fitting(result.rows)
    if kept < len(result.rows):
        found["rows"] = result.rows[:kept]
        found["missing"].append(
            {"worker": "", "reason": f"{len(result.rows) - kept} {_CUT.format(MOST)}"})
        found["status"] = result.status or 75
    return found


def _fitting(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many of the rows fit in a letter, beside the rest."""
    left = MOST * 3 // 4
    for number, row in enumerate(rows):
        left -= len(repr(row)) + 16
        if left < 0:
            return number
    return len(rows)


def _told(told: Mapping[str, Any], via: str) -> Identity:
    """Who asks, as the other host says."""
    return Identity(str(told["name"])[:100], str(told["fingerprint"])[:100],
                    Role.parse(told["role"]), f"{str(told['address'])[:100]} via {via[:63]}",
                    str(told["certificate"])[:200])


class FarEnd:
    """Answers the letters to one host."""

    def __init__(
        self, name: str, bus: Bus, seal: Seal, fleet: HostFleet, audit: AuditLog,
        read_keys: Callable[[], AuthorizedKeys], logger: logging.Logger,
    ) -> None:
        self._name = name
        self._bus = bus
        self._seal = seal
        self._fleet = fleet
        self._audit = audit
        self._read_keys = read_keys
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()

    def take(
        self, message: BusMessage, letter: Mapping[str, Any], tickets: Tickets, *,
        is_old: bool = False,
    ) -> None:
        """Answer a letter, in a task of its own; one that is old is not obeyed."""
        task = asyncio.get_running_loop().create_task(
            self._answer(message, letter, tickets, is_old))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refusal(self, letter: Mapping[str, Any]) -> str:
        """Why whoever asks may not have those words carried out here; empty when they may."""
        try:
            who = self._checked(_told(letter["who"], str(letter["from"])))
            words = [str(word) for word in letter["words"]]
            who.check(parse_call(words, self._fleet.catalogue).command)
        except ApihourError as error:
            return str(error)
        except (LookupError, TypeError, ValueError) as error:
            return f"a question that cannot be read ({error!r:.80})"
        return ""

    async def close(self) -> None:
        """Leave what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(
        self, message: BusMessage, letter: Mapping[str, Any], tickets: Tickets, is_old: bool,
    ) -> None:
        if tickets.knows(letter):
            return
        try:
            if is_old:
                raise CommandFailed(ANOTHER, "lost")
            if len(self._tasks) > _AT_ONCE:
                raise ApihourError(f"busy with {_AT_ONCE} commands of other hosts; ask again")
            tickets.begin(letter)
            result = await self._carry_out(letter)
        except ApihourError as error:
            is_lost = isinstance(error, CommandFailed) and error.kind == "lost"
            result = Result(status=PARTIAL if is_lost else error.exit_status, error=str(error))
        except Exception as error:  # a letter must not end what reads letters
            self._logger.exception("fleet: a command of another host")
            result = Result(status=FAILED, error=f"internal error: {error!r:.200}")
        content = {**to_letter(result), "host": self._name, "to": letter.get("nonce")}
        sealed = self._seal.close(f"answer.{self._name}", content)
        tickets.end(letter, content, len(sealed))
        with contextlib.suppress(BusError):  # whoever asked has given up, or asks how far it is
            await message.reply(sealed)

    async def _carry_out(self, letter: Mapping[str, Any]) -> Result:
        words = [str(word) for word in letter["words"]]
        who = _told(letter["who"], str(letter["from"]))
        command = self._fleet.catalogue.get(words[0]) if words else None
        shown, _ = hide_secrets(words, command)
        started, status, outcome = time.monotonic(), FAILED, "failed"
        try:
            who = self._checked(who)
            call = parse_call(words, self._fleet.catalogue)
            who.check(call.command)
            if call.follows and not letter.get("stream"):
                raise ApihourError(f"{call.command.name}: goes on without end, and names no "
                                   "stream; expected the number that its rows are sent under")
            if letter.get("stream"):
                self._stream(call, who, str(letter["stream"]))
                result = Result()
            else:
                result = await self._fleet.execute(call, who)
            status = result.status
            outcome = "ok" if not status else (result.error or "partial")[:200]
        except ApihourError as error:
            status, outcome = error.exit_status, str(error)[:200]
            raise
        finally:
            self._audit.record_of("command", who, command=shown, outcome=outcome, status=status,
                                  duration=time.monotonic() - started)
        return result

    def _checked(self, who: Identity) -> Identity:
        """Who asks, with what this host lets them do. Raises RoleError."""
        if not who.fingerprint:
            raise RoleError(f"{who.name} has no key that could be checked here; log in by ssh")
        keys = self._read_keys()
        entry = keys.find(who.fingerprint, authority=bool(who.certificate))
        address = who.address.partition(" ")[0].rpartition(":")[0].strip("[]")
        if entry is None or not (entry.authority or keys.match(entry.key, "", address)):
            raise RoleError(f"the key {who.fingerprint} of {who.name} is not authorised here"
                            f"{'' if entry is None else ' from ' + address[:60]}")
        return replace(who, role=min(who.role, Role.parse(entry.role)))

    # -- streams

    def _stream(self, call: Call, who: Identity, number: str) -> None:
        task = asyncio.get_running_loop().create_task(self._pump(call, who, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, call: Call, who: Identity, number: str) -> None:
        """Send the rows of a stream until it ends, or nobody reads it any more."""
        subject, hold = f"_apihour.stream.{number}", f"_apihour.hold.{number}"
        sending = asyncio.ensure_future(self._send_rows(call, who, subject))
        try:
            while not sending.done():
                await asyncio.wait({sending}, timeout=_HOLD)
                if not sending.done():
                    self._checked(who)
                    if not await first_answer(partial(self._ask_on, hold), _HOLD):
                        return  # it has hung up, or is gone
        except ApihourError as error:  # its key was taken away here, meanwhile
            await self._end_rows(subject, str(error))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _ask_on(self, hold: str, seconds: float) -> dict[str, Any] | None:
        """What whoever asked says, if it still reads; None when it does not say so."""
        sign = self._seal.close(hold, {"host": self._name})
        try:
            answer = await self._bus.request(hold, sign, seconds)
            return self._seal.open(f"{hold}.{self._name}", answer.data)
        except (BusError, LetterError):
            return None

    async def _send_rows(self, call: Call, who: Identity, subject: str) -> None:
        error = ""
        try:
            async with contextlib.aclosing(self._fleet.stream(call, who)) as rows:
                async for row in rows:
                    await self._bus.publish(subject, self._seal.close(
                        subject, {"host": self._name, "row": row}))
        except ApihourError as raised:
            error = str(raised)
        except Exception as raised:  # else whoever reads them would ask again for ever
            self._logger.exception("fleet: rows for another host")
            error = f"internal error: {raised!r:.200}"
        await self._end_rows(subject, error)

    async def _end_rows(self, subject: str, error: str) -> None:
        with contextlib.suppress(BusError):  # it hears it by silence
            await self._bus.publish(subject, self._seal.close(
                subject, {"host": self._name, "end": True, "error": error}))
