"""Long output one screen at a time, forwards and back, with a search; as less(1) does it.

Rules:

- It runs on the terminal's alternate screen; when it is left, the last screen stays to be
  seen above the prompt, so that an id in it can still be read while it is typed.
- Whatever ends it (a key, Ctrl-C, a client that is gone) gives the terminal back as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from apihour_console.text.keystrokes import Keystrokes
from apihour_console.text.pages import Pages, screen_lines
from apihour_console.text.terminal import ENTER_SCREEN, LEAVE_SCREEN, Terminal

__all__ = ["page"]

_KEYS = 1000  # keys pressed ahead; more are dropped
_ESCAPE = 0.1  # seconds in which Esc may turn out to begin another key

Write = Callable[[str], Awaitable[None]]


async def page(text: str, terminal: Terminal, write: Write) -> None:
    """Show `text` on `terminal`; what fits the screen is simply written.

    `write` sends text and waits for a slow reader.
    """
    if terminal.is_dumb or len(screen_lines(text, terminal.columns)) < terminal.rows:
        await write(text)
        return
    pages = Pages(text, terminal.columns, terminal.rows)
    terminal.write_raw(ENTER_SCREEN)
    try:
        ending = await _Pager(pages, terminal, write).run()
    finally:
        terminal.write_raw(LEAVE_SCREEN)
    pages.helping = False
    await write(pages.rest() if ending == "all" else "".join(f"{one}\n" for one in pages.screen()))


class _Pager:
    """Keys in, screens out, until a key ends it."""

    def __init__(self, pages: Pages, terminal: Terminal, write: Write) -> None:
        self._pages = pages
        self._terminal = terminal
        self._write = write
        self._keys: list[str] = []
        self._came = asyncio.Event()
        self._strokes = Keystrokes(self._press, self._paste, _KEYS)

    def _press(self, key: str) -> None:
        if len(self._keys) < _KEYS:
            self._keys.append(key)

    def _paste(self, text: str) -> None:
        for character in text:
            self._press(character)

    def _received(self, text: str) -> None:
        self._strokes.feed(text)
        self._came.set()

    def _resized(self) -> None:
        self._pages.resize(self._terminal.columns, self._terminal.rows)
        self._came.set()

    async def run(self) -> str:
        """Until a key ends it; returns how."""
        before, self._terminal.resized = self._terminal.resized, self._resized
        self._terminal.attach(self._received)
        try:
            while True:
                await self._paint()
                ending = await self._next()
                if ending:
                    return ending
        finally:
            self._terminal.resized = before
            self._terminal.detach("".join(self._keys))

    async def _next(self) -> str:
        """Take the keys there are; at least one, or a new size."""
        while not self._came.is_set() and not self._terminal.hung_up:
            try:
                async with asyncio.timeout(_ESCAPE if self._strokes.is_waiting else None):
                    await self._came.wait()
            except TimeoutError:
                self._press(self._strokes.flush())
                break
        self._came.clear()
        if self._terminal.hung_up:
            return "quit"
        while self._keys:
            ending = self._pages.press(self._keys.pop(0))
            if ending:
                return ending
        return ""

    async def _paint(self) -> None:
        """The whole screen, without erasing it first: nothing flickers."""
        lines = "".join(f"\x1b[2K{line}\n" for line in self._pages.screen())
        await self._write(f"\x1b[H{lines}\x1b[J\x1b[7m{self._pages.status()}\x1b[27m")
