"""Questions that are put again where they, or what was said to them, were lost on the way.

Rules:

- The first good answer counts, whichever of the questions it is to.
- Of who answers nothing it is not known which of both was lost. So a command is not sent again
  before the host says that it never came: it is asked how far it is, by the letter's nonce.
- A host that was heard is there: when it does not answer in its time it is slow, not gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

__all__ = ["AGAIN", "Insisting", "Said", "SilentError", "SlowError", "cancel",
           "first_answer", "within"]

AGAIN = 0.25  # seconds without an answer until it is asked again
_SELDOM = 2.0  # seconds between two questions to who has begun

Said = Mapping[str, Any]
Ask = Callable[[float], Coroutine[Any, Any, Said | None]]
"""Asks once, and waits so many seconds at most; None when nothing good was said."""
_Tasks = set[asyncio.Task[Said | None]]


class SilentError(Exception):
    """A host does not show that it hears."""


class SlowError(Exception):
    """A host hears, and has not answered in its time."""


async def first_answer(ask: Ask, seconds: float) -> Said | None:
    """What is said first to a question that is put again and again; None: nothing in time."""
    end = time.monotonic() + seconds
    asking: _Tasks = set()
    is_first = True
    try:
        while (left := end - time.monotonic()) > 0:
            if is_first or left > AGAIN:
                asking.add(asyncio.ensure_future(ask(left)))
            is_first = False
            if (answer := await within(min(left, AGAIN), asking)) is not None:
                return answer
        return None
    finally:
        await cancel(asking)


async def within(seconds: float, asking: _Tasks) -> Said | None:
    """The first answer within that time; those that say nothing are taken out of `asking`."""
    end = time.monotonic() + seconds
    while asking and (left := end - time.monotonic()) > 0:
        done, _ = await asyncio.wait(asking, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        asking -= done
        for one in done:
            if (answer := one.result()) is not None:
                return answer
    await asyncio.sleep(end - time.monotonic())
    return None


async def cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """End them; returns when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Insisting:
    """One command to one host, until its answer is there."""

    def __init__(self, send: Ask, how: Ask, may_send: Callable[[Said], bool]) -> None:
        """`how` asks how far it is, which the answer's ``state`` says.

        `may_send` says whether it may be sent again to whoever says that it never came.
        """
        self._send = send
        self._how = how
        self._may_send = may_send
        self._found: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_heard = False

    async def answer(self, hears: float, seconds: float) -> Said:
        """The answer, within `seconds`. Raises SilentError after `hears` seconds, SlowError."""
        end = time.monotonic() + seconds
        self._begin(self._send(seconds))
        looking = asyncio.ensure_future(self._look(hears, end))
        self._tasks.add(looking)
        either: set[asyncio.Future[Any]] = {self._found, looking}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not self._found.done() and looking.done():
                looking.result()
        finally:
            await cancel(self._tasks)
        if self._found.done():
            return self._found.result()
        raise SlowError if self._is_heard else SilentError

    def _begin(self, sending: Coroutine[Any, Any, Said | None]) -> None:
        task = asyncio.ensure_future(sending)
        self._tasks.add(task)
        task.add_done_callback(self._take)

    def _take(self, task: asyncio.Task[Said | None]) -> None:
        if task.cancelled() or self._found.done():
            return
        if error := task.exception():
            self._found.set_exception(error)
        elif (answer := task.result()) is not None:
            self._found.set_result(answer)

    async def _look(self, hears: float, end: float) -> None:
        """Ask how far it is, and send it again where it never came; ends when nobody hears."""
        pause = AGAIN
        await asyncio.sleep(pause)
        while True:
            state = await self._how(hears if self._is_heard else hears - AGAIN)
            if state is None and not self._is_heard:
                return
            self._is_heard, pause = True, min(2 * pause, _SELDOM)
            if state is not None and state.get("state") == "done":
                if not self._found.done():
                    self._found.set_result(state)
                return
            if state is not None and state.get("state") == "unknown" and self._may_send(state):
                self._begin(self._send(end - time.monotonic()))
                pause = AGAIN
            await asyncio.sleep(pause)
