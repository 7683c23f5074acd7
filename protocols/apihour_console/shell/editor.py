"""The line editor of an interactive session: prompt_toolkit over a channel's terminal.

Rules:

- No signal and no exception handler of the loop; what is read and written is the channel's
  (:mod:`apihour_console.text.terminal_io`).
- A line is at most :data:`LINE_LIMIT` characters; more is dropped with a bell.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import is_searching
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.search import (
    accept_search,
    accept_search_and_accept_input,
)
from prompt_toolkit.keys import Keys

from apihour_console.shell.completion import CompleteFunction
from apihour_console.shell.history import LineHistory
from apihour_console.text.isolation import leave_signals, own_application
from apihour_console.text.terminal import Terminal
from apihour_console.text.terminal_io import PASTE_LIMIT, ChannelInput, make_output

__all__ = ["LINE_LIMIT", "LineEditor"]

LINE_LIMIT = 4 * 1024  # characters; repainting a longer one costs the process tens of ms a key
_MENU = 8  # lines kept free below the prompt; the menu of choices has one less
_ENDS_SEARCH = (
    Keys.Left, Keys.Right, Keys.Home, Keys.End, Keys.ControlA, Keys.ControlE, Keys.Tab,
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
        bindings.add(Keys.BracketedPaste)(self._pasted)
        bindings.add(Keys.ControlZ)(_ignore)  # as every shell; it would be inserted
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
            bindings.add(Keys.Enter, filter=~is_searching)(_enter_of_blocks(multiline))
        return bindings

    def _pasted(self, event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        room = max(0, self._limit - len(buffer.text))
        if len(text) > room:
            event.app.output.bell()
        buffer.insert_text(text[:room])

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

    def take_over(self, other: LineEditor) -> None:
        """What was typed ahead for `other` on the same terminal is for this one."""
        self.input.take_over(other.input)

    def take_interrupt(self) -> bool:
        """Whether Ctrl-C was typed ahead."""
        return self.input.take_interrupt()

    async def run_application(self, application: Application[Any]) -> Any:
        """Run a full-screen application on the same terminal; returns its result."""
        with self._own(application):
            return await application.run_async(
                handle_sigint=False, set_exception_handler=False, pre_run=leave_signals
            )


def _ignore(event: KeyPressEvent) -> None:
    """A key that does nothing here."""


def _enter_of_blocks(multiline: Callable[[str], bool]) -> Callable[[KeyPressEvent], None]:
    """Enter where a text of several lines is typed: it runs it, or goes to the next line."""

    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        at_end = not buffer.document.text_after_cursor.strip()
        if at_end and not multiline(buffer.text):
            buffer.validate_and_handle()
        else:
            opens = buffer.document.current_line_before_cursor.rstrip().endswith(":")
            buffer.newline(copy_margin=True)
            buffer.insert_text("    " * opens)

    return enter


def _common_beginning(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    for index, character in enumerate(first):
        if character != last[index]:
            return first[:index]
    return first
