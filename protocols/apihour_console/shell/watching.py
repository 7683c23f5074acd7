"""``watch``: a command again and again; on a screen each look replaces the one before.

Rules:

- Where there is a screen it is the alternate one, and nothing of it stays; only the last look
  does, when the count of looks ended it. Elsewhere the looks follow each other.
- What does not fit is counted, never scrolled.
- Only commands that look may be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from typing import Protocol

from apihour.errors import UsageError
from apihour.ops.catalogue import Catalogue
from apihour_console.calls.call import Call, Identity, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.text.pages import screen_lines
from apihour_console.text.render import clean, csv_text, json_line, paint
from apihour_console.text.silence import SilenceBreaker
from apihour_console.text.sink import Sink
from apihour_console.text.terminal import ENTER_SCREEN, LEAVE_SCREEN

__all__ = ["watch"]

_SHORTEST = 0.2  # seconds between two looks


class LookedAt(Protocol):
    """The fleet, as far as a look needs it."""

    @property
    def catalogue(self) -> Catalogue: ...
    async def execute(self, call: Call, identity: Identity) -> Result: ...


class Looker(Protocol):
    """Who carries out and prints: the runner of the session."""

    sink: Sink
    identity: Identity

    @property
    def fleet(self) -> LookedAt: ...
    def render(self, call: Call, result: Result) -> str: ...
    async def show(self, call: Call, result: Result) -> int: ...
    async def complain(self, line: str, detail: str = "") -> None: ...


async def watch(runner: Looker, call: Call) -> int:
    """Carry out a call of ``watch``. Raises UsageError for a command that does something."""
    words = call.arguments.get("command") or ["workers"]
    formats = ["--json"] * call.json + ["--csv"] * call.csv
    inner = parse_call([*words, *formats], runner.fleet.catalogue)
    runner.identity.check(inner.command)
    if not inner.only_looks:
        instead = f"; {inner.command.name} -f goes on by itself" * inner.command.streams
        raise UsageError(f"watch {inner.command.name}: expected a command that only looks at "
                         f"something, and ends{instead}")
    interval = max(_SHORTEST, float(call.arguments.get("interval") or 2.0))
    look = _Watch(runner, inner, interval)
    async with SilenceBreaker(runner.sink, inner) as sink:
        if runner.sink.height is None or inner.json or inner.csv:
            return await look.one_below_the_other(call.limit, sink)
        last = await look.on_a_screen(call.limit, sink)
    return await runner.show(inner, last)


class _Watch:
    """One ``watch`` under way."""

    def __init__(self, runner: Looker, inner: Call, interval: float) -> None:
        self._runner = runner
        self._inner = inner
        self._interval = interval

    async def _execute(self) -> Result:
        return await self._runner.fleet.execute(self._inner, self._runner.identity)

    async def one_below_the_other(self, left: int | None, sink: SilenceBreaker) -> int:
        """Look `left` times, or until cancelled."""
        first = True
        while left is None or left > 0:
            result = await self._execute()
            await sink.out(self._plain(result, first))
            if result.error:
                await self._runner.complain(result.error, result.detail)
                return result.status
            for line in _missing(result):
                await self._runner.complain(line)
            first, left = False, None if left is None else left - 1
            if left != 0:
                await asyncio.sleep(self._interval)
        return 0

    def _plain(self, result: Result, first: bool) -> str:
        inner = self._inner
        if inner.json:
            return "".join(json_line(row) + "\n" for row in result.rows)
        if inner.csv:
            return csv_text(result.columns, result.rows, first)
        text = self._runner.render(inner, result)
        return text if first else "\n" + text

    async def on_a_screen(self, left: int | None, sink: SilenceBreaker) -> Result:
        """The same, each look in place of the one before; returns the last."""
        result = Result()
        await sink.draw(ENTER_SCREEN)
        try:
            while left is None or left > 0:
                result = await self._execute()
                if result.error:
                    break
                await sink.draw(self._screen(result))
                left = None if left is None else left - 1
                if left != 0:
                    await asyncio.sleep(self._interval)
        finally:
            with contextlib.suppress(ConnectionError):  # nobody is there to miss the screen
                await sink.draw(LEAVE_SCREEN)
        return result

    def _screen(self, result: Result) -> str:
        """One look, painted over what is there without erasing it first."""
        width, height = self._runner.sink.width or 80, self._runner.sink.height or 24
        moment = time.strftime("%H:%M:%S")
        words = clean(shlex.join(self._inner.words))
        title = f"every {self._interval:g} s: {words}  {moment}  (Ctrl-C ends it)"[:width]
        text = self._runner.render(self._inner, result)
        below = [*_missing(result), *map(clean, result.hints)]
        lines = screen_lines("\n".join([text.rstrip("\n"), *below]), width)
        room = height - 1
        if len(lines) > room:
            more = len(lines) - room + 1
            lines[room - 1 :] = [f"({more} more lines: --limit or a higher terminal)"[:width]]
        if self._runner.sink.colour:
            title = paint(title, "dim")
        *above, last = [title, *lines]
        return "\x1b[H" + "".join(f"\x1b[2K{line}\n" for line in above) + f"\x1b[J{last}"


def _missing(result: Result) -> list[str]:
    missing = [f"worker {one.worker}: {one.reason}" for one in result.missing]
    return [clean(line) for line in missing]
