"""What is written while a stream is silent, for readers that can leave unnoticed.

Rules:

- OpenSSH's client looks at its stdout only when it has something to write, and an empty
  message (RFC 4254, section 5.2) makes it write nothing: at the end of ``| head -1`` it would
  wait for the next row, however long. So a silence is broken by a byte that means nothing.
- That byte leaves every format valid: before a JSON object a blank (RFC 8259, section 2),
  between CSV records an empty line, which readers of CSV pass over, in text a carriage
  return, which no terminal shows. It comes between rows only.
- The longer the silence, the rarer: a reader that left is found in a quarter of a second, or
  in the time it has been silent already, or in a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Protocol

from apihour_console.text.sink import Sink

__all__ = ["SilenceBreaker"]

_FIRST = 0.25  # seconds; each silence after it is twice as long as the one before
_LONGEST = 60.0


class Format(Protocol):
    """What a call wants to have printed; text when neither."""

    @property
    def json(self) -> bool: ...
    @property
    def csv(self) -> bool: ...


class SilenceBreaker:
    """Prints the rows of one call to `sink`; ``async with`` breaks the silences between them."""

    def __init__(self, sink: Sink, call: Format) -> None:
        self._sink = sink
        self._nothing = " " if call.json else "\n" if call.csv else "\r"
        self._printing = asyncio.Lock()
        self._printed = asyncio.Event()
        if not call.csv:  # its first line is the header, and no other
            self._printed.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SilenceBreaker:
        if self._sink.leaves_unnoticed:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()

    async def out(self, text: str) -> None:
        """Print whole rows. ConnectionError: the reader is gone."""
        async with self._printing:
            await self._sink.out(text)
        self._printed.set()

    async def draw(self, text: str) -> None:
        """Draw a whole screen, as :meth:`out` prints rows."""
        async with self._printing:
            await self._sink.draw(text)
        self._printed.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._printed.wait()
                self._printed.clear()
                await asyncio.sleep(_FIRST)  # rows meanwhile are not waited for one by one
                await self._break()
        except ConnectionError:
            return  # the command finds out by itself, with its next row or by being cancelled

    async def _break(self) -> None:
        """Break one silence, until a row ends it."""
        wait = _FIRST
        while not self._printed.is_set():
            async with self._printing:
                if not self._printed.is_set():
                    await self._sink.out(self._nothing)
            wait = min(2 * wait, _LONGEST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._printed.wait()
