"""Requests under way in an agent: generators worked by slices, calls handed to the loop.

Rules: a job replies through its peer only; it ends once, by its last reply or by a cancel.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol

from apihour.excerpt import DETAIL, LINE, excerpt
from apihour.ops.model import Command, CommandFailed
from apihour.ops.rows import to_rows

__all__ = ["Job", "LoopJob", "check_arguments", "failure", "place_arguments", "steps_of"]

_BEGIN = 1.5  # seconds a loop has to begin: one that has not is blocked, why wait longer
ROWS = 50  # rows in one frame, so that encoding one stays within a slice


class Peer(Protocol):
    """The connection a request came by, and the jobs it has under way."""

    jobs: dict[Any, Any]

    @property
    def is_full(self) -> bool:
        """Whether it takes no more for now."""

    def reply(self, number: Any, **fields: Any) -> None:
        """Send one reply; in the agent's thread only."""

    def post(self, job: LoopJob, reply: dict[str, Any]) -> None:
        """Send one reply, from the loop."""

    def create_task(self, main: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Make a task; in the loop only."""

    def in_loop(self, function: Callable[[], Any]) -> bool:
        """Have the loop call `function`."""


class Job:
    """One request under way in the agent: a generator of rows and pauses."""

    def __init__(self, client: Peer, number: Any, steps: Iterator[Any]) -> None:
        self.client = client
        self.number = number
        self.steps = steps
        self.due = 0.0
        self.rows: list[dict[str, Any]] = []

    def work(self, until: float) -> bool:
        """Go on until `until` (monotonic); return whether it is over."""
        for step in self.steps:
            now = time.monotonic()
            if isinstance(step, float):
                self.flush()
                self.due = now + step
                return False
            self.rows += to_rows(step)
            if len(self.rows) >= ROWS:
                self.flush()
            if now >= until or self.client.is_full:
                return False
        self.flush()
        return True

    def flush(self) -> None:
        if self.rows:
            self.client.reply(self.number, item=self.rows)
            self.rows = []

    def cancel(self) -> None:
        close = getattr(self.steps, "close", None)
        if close is not None:
            close()


class LoopJob:
    """One request under way in the worker's loop."""

    def __init__(
        self, client: Peer, number: Any, seconds: float | None,
        function: Callable[[], Any],
    ) -> None:
        self.client = client
        self.number = number
        self.function = function
        self.begun = time.monotonic()
        self.last = self.begun + seconds if seconds is not None else float("inf")
        self.due = min(self.last, self.begun + _BEGIN)
        self.task: asyncio.Task[None] | None = None
        self.over = False

    def begin(self) -> None:
        """Run in the loop."""
        if not self.over:
            self.task = self.client.create_task(
                self.main(), name=f"command {self.number}"
            )

    async def main(self) -> None:
        if self.over:  # who asked was told that it was not begun
            return
        try:
            value = self.function()
            if inspect.isasyncgen(value):
                async for one in value:
                    while self.client.is_full:  # noqa: ASYNC110  # a thread empties it
                        await asyncio.sleep(0.05)
                    self.post(item=to_rows(one))
            else:
                if inspect.isawaitable(value):
                    value = await value
                rows = to_rows(value)
                for first in range(0, len(rows), ROWS):
                    self.post(item=rows[first : first + ROWS])
            self.post(end=True)
        except asyncio.CancelledError:
            self.post(error="cancelled", kind="lost")  # as when its worker ends in order
            raise
        except Exception as error:
            self.post(**failure(error))

    def post(self, **reply: Any) -> None:
        self.client.post(self, reply)

    def cancel(self) -> None:
        self.over = True
        if self.task is not None:
            self.client.in_loop(self.task.cancel)


def steps_of(call: Callable[[], Any]) -> Iterator[Any]:
    """The steps of a command of the agent, begun when first asked for."""
    value = call()
    if inspect.isgenerator(value):
        yield from value
    else:
        yield value


def check_arguments(command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, defaults filled in. Raises CommandFailed (kind ``usage``)."""
    known = {one.name for one in command.parameters}
    strange = sorted(set(given) - known)
    missing = [one.name for one in command.parameters if one.required and one.name not in given]
    if strange or missing:
        what = f"unknown {', '.join(strange)}" if strange else f"missing {', '.join(missing)}"
        raise CommandFailed(f"{command.name}: arguments: {what}; usage: {command.usage}", "usage")
    return {one.name: given.get(one.name, [] if one.variadic else one.default)
            for one in command.parameters}


def place_arguments(
    command: Command, arguments: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Split arguments in those that go by position and those that go by name."""
    positional: list[Any] = []
    options: dict[str, Any] = {}
    for one in command.parameters:
        value = arguments[one.name]
        if one.variadic:
            positional += value
        elif one.positional:
            positional.append(value)
        else:
            options[one.name] = value
    return positional, options


def failure(error: Exception) -> dict[str, Any]:
    """The reply that tells of an exception."""
    if isinstance(error, CommandFailed):
        return {"error": excerpt(str(error), LINE), "kind": error.kind,
                "detail": excerpt(error.detail, DETAIL)}
    line = str(error) or type(error).__name__
    detail = "".join(traceback.format_exception(error))
    return {"error": excerpt(f"{type(error).__name__}: {line}", LINE), "kind": "failed",
            "detail": excerpt(detail, DETAIL)}
