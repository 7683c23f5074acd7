"""What was asked and is not answered yet, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

from apihour.bus.messages import BusMessage
from apihour.errors import BusError, BusTimeoutError, NoResponderError

__all__ = ["Question", "Questions", "first"]

ANSWERS = 65536  # to one question
ANSWERS_BYTES = 64_000_000  # of those together: anybody who hears a question may answer it


class Question:
    """One question: the answers so far, and of whom there may be more."""

    def __init__(self, number: int, subject: str, expect: int | None) -> None:
        self.number = number
        self.subject = subject
        self.answers: list[BusMessage] = []
        self.asked: set[Hashable] = set()
        self.error: BusError | None = None
        self._expect = expect
        self._bytes = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, data: bytes) -> None:
        """An answer has come."""
        if not self._done.done():
            self._bytes += len(data)
            if len(self.answers) >= ANSWERS or self._bytes > ANSWERS_BYTES:
                self.end(BusError(
                    f"subject {self.subject!r}: more than {len(self.answers)} answers of "
                    f"{self._bytes - len(data)} bytes; expected at most {ANSWERS} of "
                    f"{ANSWERS_BYTES} bytes"))
                return
            self.answers.append(BusMessage(self.subject, data))
            if self._expect is not None and len(self.answers) >= self._expect:
                self._done.set_result(None)

    async def answer(self, data: bytes) -> None:
        """An answer of this very process."""
        self.take(data)

    def leave(self, who: Hashable) -> None:
        """No more answers of `who`."""
        if who in self.asked:
            self.asked.discard(who)
            if not self.asked:
                self.end()

    def end(self, error: BusError | None = None) -> None:
        """No more answers at all."""
        self.error = error
        if not self._done.done():
            self._done.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Return when there are enough answers, when no more can come, or when time is up.

        Raises what :meth:`end` was given.
        """
        timer = self._done.get_loop().call_later(seconds, self.end)
        try:
            await self._done
        finally:
            timer.cancel()
        if self.error is not None:
            raise self.error


class Questions:
    """Those of one bus, by number."""

    def __init__(self) -> None:
        self._number = 0
        self._open: dict[int, Question] = {}

    def ask(self, subject: str, expect: int | None) -> Question:
        """A new one, for a with statement's sake to be closed by :meth:`forget`."""
        while True:
            self._number = self._number % 0xFFFF_FFFF + 1
            if self._number not in self._open:
                break
        question = self._open[self._number] = Question(self._number, subject, expect)
        return question

    def forget(self, question: Question) -> None:
        """Its answers are not waited for any more."""
        del self._open[question.number]

    def take(self, number: int, data: bytes) -> None:
        """An answer to that number, if anybody still waits."""
        question = self._open.get(number)
        if question is not None:
            question.take(data)

    def leave_one(self, number: int, who: Hashable) -> None:
        """`who` does not answer that one."""
        if (question := self._open.get(number)) is not None:
            question.leave(who)

    def leave(self, who: Hashable) -> None:
        """`who` is gone."""
        for question in list(self._open.values()):
            question.leave(who)

    def close(self, error: BusError) -> None:
        """Nobody answers any more."""
        for question in list(self._open.values()):
            question.end(error)


def first(question: Question, seconds: float, asked: Any) -> BusMessage:
    """The first answer. Raises BusTimeoutError, NoResponderError when all `asked` have gone."""
    if question.answers:
        return question.answers[0]
    if asked and not question.asked:
        raise NoResponderError(
            f"subject {question.subject!r}: whoever was asked has gone without an answer")
    raise BusTimeoutError(
        f"subject {question.subject!r}: no answer within {seconds:g} s")
