"""The bus over many machines: NATS, by nats-py; with ``durable=True`` its JetStream.

Rules:

- What NATS does is left to it: wildcards, queue groups, delivery, storage.
- A connection that was lost has lost messages, nobody knows how many: every subscription is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from apihour.bus.durable import DurableSubscription, publish_durable
from apihour.bus.mailbox import Mailbox, Subscription
from apihour.bus.messages import LIMIT, BusMessage
from apihour.bus.nats_connection import NATSConnection, NATSDownError
from apihour.bus.questions import Question, Questions, first
from apihour.bus.subjects import (
    check_data,
    check_pattern,
    check_queue,
    check_seconds,
    check_subject,
)
from apihour.errors import BusDownError, BusError, NoResponderError

__all__ = ["NATSBus"]

PATIENCE = 2.0  # seconds that a message waits for the connection
_ENDING = 2.0  # seconds that what is on its way has to arrive
_ASKED = "NATS"
_DIGITS = 10  # of a question's number
_QUIET = 10.0  # seconds between two warnings about what is no answer


class NATSBus:
    """A bus that NATS carries; for one event loop."""

    def __init__(self, connect: Callable[..., NATSConnection]) -> None:
        """`connect` makes the connection, given what to call when it comes again."""
        self._connection = connect(again=self._came_again)
        self._connection.on_slow = self._slow
        self._questions = Questions()
        self._mailboxes: dict[Mailbox, Any] = {}
        self._beginning: dict[Mailbox, asyncio.Task[Any]] = {}
        self._durables: set[DurableSubscription] = set()
        self._inbox = ""
        self._is_closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_warning = 0.0

    # -- for the application ---------------------------------------------------------------

    async def publish(self, subject: str, data: bytes = b"", *, durable: bool = False) -> None:
        """See :meth:`Bus.publish`."""
        check_subject(subject)
        check_data(subject, data)
        if durable:
            await publish_durable(await self._client(PATIENCE), subject, data)
        else:
            await self._publish(subject, data)

    def subscribe(
        self, pattern: str, *, queue: str = "", gaps: bool = False, limit: int = LIMIT,
        durable: bool = False,
    ) -> Any:
        """See :meth:`Bus.subscribe`."""
        check_pattern(pattern)
        check_queue(queue)
        if durable:
            return DurableSubscription(self._client, self._durables, pattern, queue)
        return Subscription[Any](self, Mailbox(pattern, queue, limit), gaps)

    async def request(
        self, subject: str, data: bytes = b"", timeout: float = 1.0) -> BusMessage:
        """See :meth:`Bus.request`."""
        check_seconds(subject, "timeout", timeout)
        question = await self._ask(subject, data, timeout, 1)
        if not question.answers and not question.asked:
            raise NoResponderError(f"subject {subject!r}: nobody subscribes to it")
        return first(question, timeout, question.asked)

    async def gather(
        self, subject: str, data: bytes = b"", deadline: float = 1.0, expect: int | None = None,
    ) -> list[BusMessage]:
        """See :meth:`Bus.gather`."""
        check_seconds(subject, "deadline", deadline)
        return (await self._ask(subject, data, deadline, expect)).answers

    async def _ask(
        self, subject: str, data: bytes, seconds: float, expect: int | None) -> Question:
        check_subject(subject)
        check_data(subject, data)
        end = asyncio.get_running_loop().time() + seconds
        client = await self._client(min(seconds, PATIENCE))
        if not self._inbox:
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        question = self._questions.ask(subject, expect)
        question.asked.add(_ASKED)
        try:
            await self._publish(subject, data, f"{self._inbox}.{question.number}")
            await question.wait(end - asyncio.get_running_loop().time())
        finally:
            self._questions.forget(question)
        return question

    async def _answered(self, msg: Any) -> None:
        last = msg.subject.rpartition(".")[2]
        if len(last) > _DIGITS or not (last.isascii() and last.isdecimal()):
            return self._warn(f"not an answer, thrown away: subject {msg.subject!r:.80}; expected "
                              "the number of a question at its end")
        number = int(last)
        if msg.headers and msg.headers.get("Status") == "503":
            self._questions.leave_one(number, _ASKED)
        else:
            self._questions.take(number, msg.data)

    async def _publish(self, subject: str, data: bytes, reply: str = "") -> None:
        client = await self._client(PATIENCE)
        try:
            await client.publish(subject, data, reply=reply)
        except (self._connection.errors.Error, OSError) as error:
            raise BusError(f"subject {subject!r}: {self._connection.where}: {error}") from error

    async def _client(self, seconds: float | None) -> Any:
        if self._is_closed:
            raise BusError("bus: closed; expected a worker that has not left")
        try:
            return await self._connection.client(seconds)
        except NATSDownError as error:
            raise BusDownError(str(error)) from None

    # -- for the worker --------------------------------------------------------------------

    def retire(self, is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
        """See :meth:`Bus.retire`."""
        for mailbox in [*self._mailboxes, *self._beginning]:
            if mailbox.queue or (mailbox.task is not None and is_work(mailbox.task)):
                if waiting := self._beginning.get(mailbox):
                    waiting.cancel()
                self._start(self.end(mailbox))
        for durable in list(self._durables):
            durable.end()

    async def close(self) -> None:
        """See :meth:`Bus.close`."""
        if self._is_closed:
            return
        for durable in list(self._durables):
            durable.end()
        await asyncio.gather(*(self.end(mailbox) for mailbox in list(self._mailboxes)))
        self._is_closed = True
        self._questions.close(BusError("bus: closed, nobody answers any more"))
        await self._connection.close()

    # -- for subscriptions -----------------------------------------------------------------

    async def begin(self, mailbox: Mailbox) -> None:
        """See :meth:`Carrier.begin`; waits for NATS as long as that takes, or the worker lives."""
        if mailbox in self._mailboxes:
            return
        waiting = self._beginning[mailbox] = asyncio.ensure_future(self._client(None))
        try:
            await asyncio.wait({waiting})
        finally:
            waiting.cancel()
            self._beginning.pop(mailbox, None)
        if waiting.cancelled():  # the worker retires
            return
        client = waiting.result()

        async def deliver(msg: Any) -> None:
            mailbox.deliver(BusMessage(
                msg.subject, msg.data, self._answer(msg.reply) if msg.reply else None))

        self._mailboxes[mailbox] = await client.subscribe(
            mailbox.pattern, mailbox.queue, cb=deliver, pending_msgs_limit=mailbox.limit + LIMIT)
        try:
            await client.flush(PATIENCE)
        except (self._connection.errors.Error, OSError) as error:  # it begins when NATS is back
            mailbox.deliver_gap(None, f"may have missed messages at its begin: {error!r}")

    async def end(self, mailbox: Mailbox) -> None:
        """See :meth:`Carrier.end`."""
        subscription = self._mailboxes.pop(mailbox, None)
        if subscription is not None:
            try:
                async with asyncio.timeout(_ENDING):
                    await subscription.drain()
            except (TimeoutError, self._connection.errors.Error, OSError) as error:
                mailbox.deliver_gap(None, f"may have missed messages at its end: {error!r}")
        mailbox.end()

    def drop(self, mailbox: Mailbox) -> None:
        """See :meth:`Carrier.drop`."""
        if mailbox in self._mailboxes:
            self._start(self.end(mailbox))

    def _answer(self, reply: str) -> Any:
        async def answer(data: bytes) -> None:
            check_data("of an answer", data)
            await self._publish(reply, data)
        return answer

    def _slow(self, subscription: Any) -> None:
        for mailbox, one in self._mailboxes.items():
            if one is subscription:
                mailbox.deliver_gap(1, "is too slow: what does not fit is dropped")

    def _came_again(self, seconds: float) -> None:
        why = f"may have missed messages: NATS was not connected for {seconds:.1f} s"
        for mailbox in self._mailboxes:
            mailbox.deliver_gap(None, why)

    def _warn(self, what: str) -> None:
        """Say what anybody of the account can cause, at any speed."""
        if (now := time.monotonic()) >= self._next_warning:
            self._next_warning = now + _QUIET
            logging.getLogger("gunicorn.error").warning("%s: %s", self._connection.where, what)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
