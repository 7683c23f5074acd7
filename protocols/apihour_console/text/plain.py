"""A line reader without prompt_toolkit, and for terminals that can do nothing: ``TERM=dumb``.

Rules:

- Echo, erase and enter; Ctrl-C drops the line, Ctrl-U and Ctrl-W erase, Ctrl-D ends.
- Arrow keys and their like are swallowed, never echoed.
"""

from __future__ import annotations

import asyncio

from apihour_console.text.keystrokes import Keystrokes
from apihour_console.text.terminal import Terminal

__all__ = ["PlainEditor"]

_LIMIT = 8 * 1024  # characters of a line
_ENTER, _ERASE = ("\r", "\n"), ("\x7f", "\b")


class PlainEditor:
    """Reads lines from one terminal; the same few methods as the line editor."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._keys: list[str] = []
        self._came = asyncio.Event()
        self._closed = False
        self._strokes = Keystrokes(self._keys.append, self._keys.extend, _LIMIT)

    async def read_line(self, prompt: str) -> str:
        """One line. Raises EOFError, and KeyboardInterrupt on Ctrl-C."""
        self._terminal.write(prompt)
        self._terminal.attach(self._received)
        line: list[str] = []
        try:
            while True:
                key = await self._next()
                if key in _ENTER:
                    self._terminal.write("\n")
                    return "".join(line)
                self._edit(line, key)
        finally:
            self._terminal.detach()

    def _edit(self, line: list[str], key: str) -> None:
        if key == "\x03":
            self._terminal.write("^C\n")
            raise KeyboardInterrupt
        if key == "\x04":
            if not line:
                self._terminal.write("\n")
                raise EOFError
        elif key in _ERASE:
            self._erase(line, 1)
        elif key == "\x15":
            self._erase(line, len(line))
        elif key == "\x17":
            words = "".join(line).rstrip().rpartition(" ")
            self._erase(line, len(line) - len(words[0] + words[1]))
        elif len(key) == 1 and key.isprintable() and len(line) < _LIMIT:
            line.append(key)
            self._terminal.write(key)

    def _erase(self, line: list[str], count: int) -> None:
        count = min(count, len(line))
        del line[len(line) - count :]
        self._terminal.write("\b \b" * count)

    def take_over(self, other: PlainEditor) -> None:
        """What was typed ahead for `other` on the same terminal is for this one."""
        self._keys[:0] = other._keys
        other._keys.clear()
        self._came.set()

    def _received(self, text: str) -> None:
        self._strokes.feed(text)
        self._came.set()

    async def _next(self) -> str:
        while not self._keys:
            if self._closed:
                raise EOFError
            self._came.clear()
            await self._came.wait()
        return self._keys.pop(0)

    def close(self) -> None:
        """The other end is gone."""
        self._closed = True
        self._came.set()

    def take_interrupt(self) -> bool:
        """Whether Ctrl-C was typed ahead; it and what was typed before it are dropped."""
        if "\x03" not in self._keys:
            return False
        del self._keys[: self._keys.index("\x03") + 1]
        return True

    def drop_typeahead(self) -> None:
        """Forget what was typed while a command ran."""
        self._keys.clear()
