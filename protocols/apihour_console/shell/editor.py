"""The line editor of an interactive session: prompt_toolkit over a channel's terminal.

Rules:

- No file descriptor, no signal, no exception handler of the loop: input comes from memory,
  output goes to the channel (prompt_toolkit.contrib.ssh blocks on a pipe).
- The cursor's position is never asked for: answers that cross the network late would be
  taken for typing.
- A line is at most :data:`LINE_LIMIT` characters; more is dropped with a bell.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.filters import is_searching
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import History
from prompt_toolkit.input.base import Input
from prompt_toolkit.input.typeahead import clear_typeahead, get_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.key_binding.bindings.search import (
    accept_search,
    accept_search_and_accept_input,
)
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from apihour_console.shell.completion import Candidate
from apihour_console.shell.history import LineHistory
from apihour_console.text.keystrokes import Keystrokes
from apihour_console.text.own import leave_signals, own_application
from apihour_console.text.terminal import Terminal

__all__ = ["LINE_LIMIT", "ChannelInput", "LineEditor", "make_output"]

LINE_LIMIT = 4 * 1024  # characters; repainting a longer one costs the process tens of ms a key
PASTE_LIMIT = 64 * 1024  # characters of one paste, for blocks of Python
_MENU = 8  # lines kept free below the prompt; the menu of choices has one less
_SLOW = (Keys.ControlM, Keys.ControlJ, Keys.ControlI)  # Enter and Tab
_ENDS_SEARCH = (
    Keys.Left, Keys.Right, Keys.Home, Keys.End, Keys.ControlA, Keys.ControlE, Keys.Tab,
)
_numbers = itertools.count(1)  # names inputs apart in prompt_toolkit's typeahead store

CompleteFunction = Callable[[str], AsyncGenerator[Candidate, None]]


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


class _Completer(Completer):
    """Completion by a function over the text before the cursor."""

    def __init__(self, complete: CompleteFunction) -> None:
        self.complete = complete

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        raise NotImplementedError("completions come from the loop: see get_completions_async")

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        async for one in self.complete(document.text_before_cursor):
            yield Completion(one.text, -one.replaces, display_meta=one.about)


class _History(History):
    """prompt_toolkit's view of a :class:`LineHistory`."""

    def __init__(self, lines: LineHistory, loaded: Callable[[], None]) -> None:
        super().__init__()
        self._lines = lines
        self._loaded_now = loaded

    async def load(self) -> AsyncGenerator[str, None]:
        """As ever; the editor is told when the prompt has all of it."""
        try:
            async for line in super().load():
                yield line
        finally:
            self._loaded_now()

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._lines.lines)

    def store_string(self, string: str) -> None:
        self._lines.append(string)


class LineEditor:
    """Reads lines from one terminal; completion, history and Ctrl-R included."""

    def __init__(
        self, terminal: Terminal, history: LineHistory, complete: CompleteFunction,
        multiline: Callable[[str], bool] | None = None,
    ) -> None:
        """`multiline` says whether the text so far wants another line (a Python block)."""
        self.terminal = terminal
        self.input = ChannelInput(terminal)
        self.output = make_output(terminal)
        self._limit = PASTE_LIMIT if multiline else LINE_LIMIT
        self._completer = _Completer(complete)
        self._after_word = "" if multiline else " "
        with create_app_session(input=self.input, output=self.output):
            self.session: PromptSession[str] = PromptSession(
                history=_History(history, self.input.release), completer=self._completer,
                complete_while_typing=False, enable_history_search=True,
                key_bindings=self._bindings(multiline), multiline=multiline is not None,
                reserve_space_for_menu=_MENU, input=self.input, output=self.output,
                prompt_continuation="... ", rprompt=self._count,
            )
        self.session.default_buffer.on_text_changed += self._bound

    def _bindings(self, multiline: Callable[[str], bool] | None) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add(Keys.BracketedPaste)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            room = max(0, self._limit - len(buffer.text))
            if len(text) > room:
                event.app.output.bell()
            buffer.insert_text(text[:room])

        # As readline does it: Enter runs the line found, a movement goes on editing it.
        bindings.add(Keys.Enter, filter=is_searching)(accept_search_and_accept_input)
        for key in _ENDS_SEARCH:
            bindings.add(key, filter=is_searching)(accept_search)

        @bindings.add(Keys.Tab, filter=~is_searching)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.complete_state is not None:
                buffer.complete_next()
            elif multiline is not None and not buffer.document.current_line_before_cursor.strip():
                buffer.insert_text("    ")
            else:
                self.input.hold()
                event.app.create_background_task(self._complete(buffer))

        if multiline is not None:
            @bindings.add(Keys.Enter, filter=~is_searching)
            def _(event: KeyPressEvent) -> None:
                buffer = event.current_buffer
                at_end = not buffer.document.text_after_cursor.strip()
                if at_end and not multiline(buffer.text):
                    buffer.validate_and_handle()
                else:
                    opens = buffer.document.current_line_before_cursor.rstrip().endswith(":")
                    buffer.newline(copy_margin=True)
                    buffer.insert_text("    " * opens)

        return bindings

    def _count(self) -> str | None:
        """At the right of the line: how many choices there are, when not all can be seen."""
        state = self.session.default_buffer.complete_state
        if state is None or len(state.completions) < _MENU or self.session.app.is_done:
            return None
        count = len(state.completions)
        if state.complete_index is None:
            return f"{count} choices, Tab goes on"
        return f"{state.complete_index + 1} of {count}"

    async def _complete(self, buffer: Buffer) -> None:
        """Insert what all candidates have in common, and show them when there are several."""
        try:
            text = buffer.document.text_before_cursor
            found = [one async for one in self._completer.complete(text)]
            if not found:
                self.output.bell()
                return
            typed = text[len(text) - found[0].replaces :]
            common = _common_beginning([one.text for one in found])
            buffer.insert_text(common[len(typed):])
            if len(found) > 1:
                buffer.start_completion()
            elif not common.endswith("="):
                buffer.insert_text(self._after_word)
        finally:
            self.input.release()

    def _bound(self, buffer: Buffer) -> None:
        if len(buffer.text) > self._limit:
            buffer.document = Document(buffer.text[: self._limit])

    async def read_line(self, prompt: str) -> str:
        """One line (or pasted lines). Raises EOFError, KeyboardInterrupt on Ctrl-C.

        `prompt` may hold colours (ECMA-48 SGR).
        """
        if self.input.closed:
            raise EOFError
        self.input.hold()  # until its history is there, for an arrow key pressed at once
        with self._own(self.session.app):
            return await self.session.prompt_async(
                ANSI(prompt), handle_sigint=False, set_exception_handler=False,
                pre_run=leave_signals,
            )

    def _own(self, application: Application[Any]) -> AbstractContextManager[None]:
        # Its poll of the size does the rest.
        return own_application(self.terminal, self.input, self.output, application.invalidate)

    def close(self) -> None:
        """The other end is gone."""
        self.input.close()

    def drop_typeahead(self) -> None:
        """Forget what was typed while a command ran."""
        self.input.drop_typeahead()

    def take_interrupt(self) -> bool:
        """Whether Ctrl-C was typed ahead."""
        return self.input.take_interrupt()

    async def run_application(self, application: Application[Any]) -> Any:
        """Run a full-screen application on the same terminal; returns its result."""
        with self._own(application):
            return await application.run_async(
                handle_sigint=False, set_exception_handler=False, pre_run=leave_signals
            )


def _common_beginning(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    for index, character in enumerate(first):
        if character != last[index]:
            return first[:index]
    return first
