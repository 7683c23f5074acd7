"""The lifespan protocol of ASGI: the application's own startup and shutdown.

Rules (https://asgi.readthedocs.io/en/latest/specs/lifespan.html):

- ``lifespan.startup.failed`` stops the start, with the application's own exception when it
  raises one as well.
- In mode ``auto``, an application that raises without that message does not support
  lifespan: it is served without. In mode ``on`` that is a failure; ``off`` never asks.
- The application runs in one task from startup to shutdown, so its context managers are
  left in the task that entered them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

__all__ = ["Application", "Lifespan", "LifespanError", "Mode"]

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Mode = Literal["auto", "on", "off"]


class LifespanError(RuntimeError):
    """The application said that its startup or shutdown failed, and raised nothing."""


class Lifespan:
    """One startup and one shutdown of `app`; ``state`` is what requests get a copy of."""

    def __init__(self, app: Application, mode: Mode, logger: logging.Logger) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._logger = logger
        self._task: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._asked = False

    async def startup(self) -> None:
        """Raises the application's own error, or LifespanError, when it cannot start."""
        if self._mode == "off":
            return
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"},
                 "state": self.state}
        self._task = asyncio.ensure_future(self._run(scope))
        self._inbox.put_nowait({"type": "lifespan.startup"})
        answer = await self._answer()
        if answer is not None and answer["type"] == "lifespan.startup.complete":
            return
        task, self._task = self._task, None
        error = await _outcome(task)
        if answer is not None:
            raise error or LifespanError(_text("startup", answer))
        if self._mode == "on":
            raise error or LifespanError("the application left its lifespan before startup")
        level = logging.WARNING if self._asked and error else logging.DEBUG
        self._logger.log(level, "the application does not support lifespan: %r", error,
                         exc_info=error if level == logging.WARNING else None)

    async def shutdown(self) -> None:
        """Tell the application. Raises its own error, or LifespanError, when that fails."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        answer = await self._answer(task)
        error = await _outcome(task)
        if error is not None:
            raise error
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise LifespanError(_text("shutdown", answer))

    async def _run(self, scope: Message) -> None:
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self._asked = True
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        self._answers.put_nowait(message)

    async def _answer(self, task: asyncio.Task[None] | None = None) -> Message | None:
        """The application's next message, or None when it ended without one."""
        running = task or self._task
        assert running is not None
        answer = asyncio.ensure_future(self._answers.get())
        try:
            await asyncio.wait({answer, running}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and not self._answers.empty():
                return self._answers.get_nowait()
            return answer.result() if answer.done() else None
        finally:
            answer.cancel()


async def _outcome(task: asyncio.Task[None]) -> BaseException | None:
    """What the application raised, once it ended."""
    await asyncio.wait({task})
    return None if task.cancelled() else task.exception()


def _text(phase: str, answer: Message) -> str:
    return f"the application's {phase} failed: {answer.get('message') or 'no reason given'}"
