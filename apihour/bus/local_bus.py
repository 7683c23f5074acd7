"""The embedded bus: between the workers of one daemon, over unix sockets, with no hub.

Rules:

- A sender knows what the others subscribe to, and sends to those alone; of a queue group it
  chooses one, by chance, that is not behind.
- Nothing that is sent is waited for. What a neighbour does not read is dropped when 8 MB wait,
  for it alone, and it is told how much when it reads again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apihour.bus.bus_wire import SUBSCRIBE, UNSUBSCRIBE, answer_frame, message_frame
from apihour.bus.interests import Interests
from apihour.bus.mailbox import Mailbox, Subscription
from apihour.bus.mesh import GREETING, Caller, Mesh, Neighbour
from apihour.bus.messages import LIMIT, BusMessage
from apihour.bus.questions import Question, Questions, first
from apihour.bus.subjects import (
    check_data,
    check_pattern,
    check_queue,
    check_seconds,
    check_subject,
)
from apihour.errors import BusError, NoResponderError

__all__ = ["LocalBus"]

_BURST = 64  # messages published without letting the loop send them
_KNOWN = 4096  # subjects that need not be looked at again
_HERE = "here"


class LocalBus:
    """The bus of all processes that open one in `directory`; for one event loop."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.theirs: Interests[Neighbour] = Interests()
        self.questions = Questions()
        self._mine: Interests[Mailbox] = Interests()
        self._mailboxes: set[Mailbox] = set()
        # Of another version no message could be read.
        self._mesh = Mesh(Path(directory) / "v1", self)
        self._opening: asyncio.Task[None] | None = None
        self._is_open = self._is_closed = False
        self._known: set[str] = set()
        self._burst = 0
        self._endings: set[asyncio.Task[None]] = set()

    # -- for the application ---------------------------------------------------------------

    async def publish(self, subject: str, data: bytes = b"", *, durable: bool = False) -> None:
        """See :meth:`Bus.publish`."""
        _refuse(durable, "subject", subject)
        if not self._is_open:
            await self._open()
        self._check(subject, data)
        self._send(subject, data, None)
        self._burst += 1
        if self._burst >= _BURST:
            self._burst = 0
            await asyncio.sleep(0)

    def subscribe(
        self, pattern: str, *, queue: str = "", gaps: bool = False, limit: int = LIMIT,
        durable: bool = False,
    ) -> Any:
        """See :meth:`Bus.subscribe`."""
        _refuse(durable, "pattern", pattern)
        mailbox = Mailbox(check_pattern(pattern), check_queue(queue), limit)
        return Subscription[Any](self, mailbox, gaps)

    async def request(
        self, subject: str, data: bytes = b"", timeout: float = 1.0) -> BusMessage:
        """See :meth:`Bus.request`."""
        check_seconds(subject, "timeout", timeout)
        question, asked = await self._ask(subject, data, timeout, 1)
        if not asked:
            raise NoResponderError(f"subject {subject!r}: nobody subscribes to it")
        return first(question, timeout, asked)

    async def gather(
        self, subject: str, data: bytes = b"", deadline: float = 1.0, expect: int | None = None,
    ) -> list[BusMessage]:
        """See :meth:`Bus.gather`."""
        check_seconds(subject, "deadline", deadline)
        question, _ = await self._ask(subject, data, deadline, expect)
        return question.answers

    async def _ask(
        self, subject: str, data: bytes, seconds: float, expect: int | None,
    ) -> tuple[Question, bool]:
        if not self._is_open:
            await self._open()
        self._check(subject, data)
        question = self.questions.ask(subject, expect)
        try:
            self._send(subject, data, question)
            asked = bool(question.asked)
            if asked:
                for neighbour in question.asked - {_HERE}:
                    neighbour.flush()  # type: ignore[attr-defined]
                await question.wait(seconds)
        finally:
            self.questions.forget(question)
        return question, asked

    def _check(self, subject: str, data: bytes) -> None:
        if subject not in self._known:
            check_subject(subject)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known.add(subject)
        check_data(subject, data)

    # -- for the worker --------------------------------------------------------------------

    def retire(self, is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
        """See :meth:`Bus.retire`."""
        for mailbox in list(self._mailboxes):
            if mailbox.queue or (mailbox.task is not None and is_work(mailbox.task)):
                task = asyncio.get_running_loop().create_task(self.end(mailbox))
                self._endings.add(task)
                task.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """See :meth:`Bus.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._opening is not None:
            await asyncio.wait({self._opening})
            await asyncio.gather(*(self.end(mailbox) for mailbox in list(self._mailboxes)))
            self._is_open = False
            self.questions.close(BusError("bus: closed, nobody answers any more"))
            await self._mesh.close()

    async def _open(self) -> None:
        if self._opening is None and not self._is_closed:
            self._opening = asyncio.get_running_loop().create_task(self._mesh.open())
        if self._opening is not None:
            try:
                await asyncio.shield(self._opening)
            except BusError:
                self._opening = None  # the next call tries again
                raise
        if self._is_closed:  # perhaps while it opened
            raise BusError("bus: closed; expected a worker that has not left")
        self._is_open = True

    # -- for subscriptions -----------------------------------------------------------------

    async def begin(self, mailbox: Mailbox) -> None:
        """See :meth:`Carrier.begin`."""
        await self._open()
        if mailbox not in self._mailboxes:
            self._mailboxes.add(mailbox)
            self._mine.add(mailbox.pattern, mailbox.queue, mailbox)
            await self._tell(SUBSCRIBE, mailbox)

    async def end(self, mailbox: Mailbox) -> None:
        """See :meth:`Carrier.end`."""
        if mailbox in self._mailboxes:
            self._mailboxes.discard(mailbox)
            await self._tell(UNSUBSCRIBE, mailbox)  # what comes until it is heard is still ours
            self._mine.remove(mailbox.pattern, mailbox.queue, mailbox)
        mailbox.end()

    def drop(self, mailbox: Mailbox) -> None:
        """See :meth:`Carrier.drop`."""
        if mailbox in self._mailboxes:
            self._mailboxes.discard(mailbox)
            self._mine.remove(mailbox.pattern, mailbox.queue, mailbox)
            for caller in self._mesh.callers:
                caller.told(UNSUBSCRIBE, mailbox.pattern, mailbox.queue)

    async def _tell(self, kind: int, mailbox: Mailbox) -> None:
        told = [caller.told(kind, mailbox.pattern, mailbox.queue)
                for caller in self._mesh.callers]
        if told:
            await asyncio.wait(told, timeout=GREETING)

    # -- messages --------------------------------------------------------------------------

    def _send(self, subject: str, data: bytes, question: Question | None) -> None:
        mine, theirs = self._mine.match(subject), self.theirs.match(subject)
        number = question.number if question is not None else 0
        chosen: dict[Neighbour, list[str]] = {}
        here = list(mine.plain)
        for queue in mine.groups.keys() | theirs.groups.keys():
            one = _choose(mine.groups.get(queue, ()), theirs.groups.get(queue, ()))
            if isinstance(one, Mailbox):
                here.append(one)
            else:
                chosen.setdefault(one, []).append(queue)
        if theirs.plain or chosen:
            name = subject.encode()
            plain = message_frame(name, b"", data, number)
            for neighbour in theirs.plain:
                if neighbour not in chosen and neighbour.send(subject, plain) and question:
                    question.asked.add(neighbour)
            for neighbour, queues in chosen.items():
                groups = " ".join(queues).encode()
                sent = neighbour.send(subject, message_frame(name, groups, data, number))
                if sent and question:
                    question.asked.add(neighbour)
        if here:
            answer = question.answer if question is not None else None
            for mailbox in here:
                mailbox.deliver(BusMessage(subject, data, answer))
            if question is not None:
                question.asked.add(_HERE)

    def subscriptions(self) -> list[tuple[str, str]]:
        """See :class:`MeshHost`."""
        return [(mailbox.pattern, mailbox.queue) for mailbox in self._mailboxes]

    def arrived(
        self, caller: Caller, question: int, subject: str, groups: list[str], data: bytes,
    ) -> None:
        """See :class:`MeshHost`."""
        matched = self._mine.match(subject)
        message = BusMessage(subject, data, _Answer(caller, question) if question else None)
        for mailbox in matched.plain:
            mailbox.deliver(message)
        for queue in groups:
            members = matched.groups.get(queue)
            if members:
                random.choice(members).deliver(message)

    def missed(self, subject: str, number: int) -> None:
        """See :class:`MeshHost`."""
        why = f"has missed {number} messages, which this worker did not read in time"
        if subject == ">":
            for mailbox in list(self._mailboxes):
                mailbox.deliver_gap(None, why)
            return
        matched = self._mine.match(subject)
        for members in (matched.plain, *matched.groups.values()):
            for mailbox in members:
                mailbox.deliver_gap(number, why)


class _Answer:
    """What answers a question of another worker."""

    def __init__(self, caller: Caller, number: int) -> None:
        self._caller = caller
        self._number = number

    async def __call__(self, data: bytes) -> None:
        check_data("of an answer", data)
        if not self._caller.put(answer_frame(self._number, data)):
            raise BusError("bus: whoever asked has gone, or does not read its answers")
        self._caller.flush()


def _choose(mine: tuple[Mailbox, ...], theirs: tuple[Neighbour, ...]) -> Mailbox | Neighbour:
    members: tuple[Any, ...] = mine + theirs
    if any(one.is_behind for one in theirs):
        members = mine + tuple(one for one in theirs if not one.is_behind) or members
    one: Mailbox | Neighbour = members[int(random.random() * len(members))]
    return one


def _refuse(durable: bool, what: str, subject: str) -> None:
    if durable:
        raise BusError(f"{what} {subject!r}: durable=True: the embedded bus stores nothing; "
                       "expected bus: nats://HOST:PORT in the configuration, of a NATS with "
                       "JetStream (pip install 'apihour[nats]')")
