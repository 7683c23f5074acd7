"""prompt_toolkit's input and output on the terminal of a channel.

Rules:

- No file descriptor: input comes from memory, output goes to the channel
  (prompt_toolkit.contrib.ssh blocks on a pipe).
- The cursor's position is never asked for: answers that cross the network late would be
  taken for typing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TextIO, cast

from prompt_toolkit.data_structures import Size
from prompt_toolkit.input.base import Input
from prompt_toolkit.input.typeahead import clear_typeahead, get_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from apihour_console.text.keystrokes import Keystrokes
from apihour_console.text.terminal import Terminal

__all__ = ["PASTE_LIMIT", "ChannelInput", "make_output"]

PASTE_LIMIT = 64 * 1024  # characters of one paste, for blocks of Python
_SLOW = (Keys.ControlM, Keys.ControlJ, Keys.ControlI)  # Enter and Tab
_numbers = itertools.count(1)  # names inputs apart in prompt_toolkit's typeahead store


class ChannelInput(Input):
    """prompt_toolkit's input, fed from memory.

    Keys that start something which takes time (Enter, Tab) are given one at a time, and
    :meth:`hold` keeps those behind them: nothing is typed into the wrong moment.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._name = f"channel-{next(_numbers)}"
        self._presses: list[KeyPress] = []
        self._parser = Vt100Parser(self._presses.append)
        self._strokes = Keystrokes(self._key, self._paste, PASTE_LIMIT)
        self._held = False
        self._ready: Callable[[], None] | None = None
        self._closed = False

    def _key(self, text: str) -> None:
        self._parser.feed(text)
        if text == "\x1b":
            self._parser.flush()

    def _paste(self, text: str) -> None:
        self._parser.flush()
        self._presses.append(KeyPress(Keys.BracketedPaste, text))

    def _received(self, text: str) -> None:
        self._strokes.feed(text)
        if self._ready is not None:
            self._ready()

    def read_keys(self) -> list[KeyPress]:
        """Take the presses that came since, up to one that takes time."""
        if self._held:
            return []
        count = 0
        for press in self._presses:
            count += 1
            if press.key in _SLOW:
                break
        presses = self._presses[:count]
        del self._presses[:count]
        if self._presses:
            self._soon()
        return presses

    def hold(self) -> None:
        """Give no presses until :meth:`release`."""
        self._held = True

    def release(self) -> None:
        """Give presses again."""
        self._held = False
        if self._presses:
            self._soon()

    def _soon(self) -> None:
        # Two turns of the loop: whoever got Enter in this one detaches in the next.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._wake)

    def _wake(self) -> None:
        if self._ready is not None and self._presses:
            self._ready()

    def flush_keys(self) -> list[KeyPress]:
        """Take what was the beginning of something longer and stayed alone."""
        tail = self._strokes.flush()
        if tail:
            self._parser.feed(tail)
        self._parser.flush()
        return self.read_keys()

    @contextmanager
    def _attached(self, ready: Callable[[], None]) -> Generator[None, None, None]:
        previous, self._ready = self._ready, ready
        self._terminal.attach(self._received)
        if self._presses:
            self._soon()
        try:
            yield
        finally:
            self._ready = previous
            if previous is None:
                self._terminal.detach()

    def attach(self, input_ready_callback: Callable[[], None]) -> AbstractContextManager[None]:
        return self._attached(input_ready_callback)

    @contextmanager
    def _detached(self) -> Generator[None, None, None]:
        previous, self._ready = self._ready, None
        self._terminal.detach()
        try:
            yield
        finally:
            self._ready = previous
            if previous is not None:
                self._terminal.attach(self._received)

    def detach(self) -> AbstractContextManager[None]:
        return self._detached()

    def raw_mode(self) -> AbstractContextManager[None]:
        """The client's terminal is in raw mode already."""
        return nullcontext()

    def cooked_mode(self) -> AbstractContextManager[None]:
        return nullcontext()

    def fileno(self) -> int:
        raise NotImplementedError("a channel has no file descriptor")

    def typeahead_hash(self) -> str:
        return self._name

    def drop_typeahead(self) -> None:
        """Forget what was typed ahead."""
        self._presses.clear()
        clear_typeahead(self)

    def take_over(self, other: ChannelInput) -> None:
        """What was typed ahead for `other` is for whoever reads here."""
        self._presses[:0] = get_typeahead(other) + other._presses
        other._presses.clear()

    def take_interrupt(self) -> bool:
        """Whether Ctrl-C was typed ahead; it and what was typed before it are dropped."""
        presses = get_typeahead(self) + self._presses
        keys = [press.key for press in presses]
        found = Keys.ControlC in keys
        self._presses[:] = presses[keys.index(Keys.ControlC) + 1 :] if found else presses
        return found

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """The other end is gone: whoever reads gets EOFError."""
        self._closed = True
        if self._ready is not None:
            self._ready()
        clear_typeahead(self)


class _Output:
    """The file that prompt_toolkit writes to."""

    encoding = "utf-8"

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def write(self, text: str) -> None:
        self._terminal.write_raw(text)

    def flush(self) -> None:
        """Writes are not held back."""

    def isatty(self) -> bool:
        return True


def make_output(terminal: Terminal) -> Vt100_Output:
    """prompt_toolkit's output on that terminal."""
    return Vt100_Output(
        cast(TextIO, _Output(terminal)),
        lambda: Size(rows=terminal.rows, columns=terminal.columns),
        term=terminal.kind, enable_cpr=False,
        default_color_depth=None if terminal.colour else ColorDepth.DEPTH_1_BIT,
    )
