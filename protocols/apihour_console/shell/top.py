"""``top``: a full screen of workers and servers, refreshed every second.

Keys: ``q`` leaves, arrows choose a row, ``Tab`` the other table, ``<`` and ``>`` the column
to sort by, ``r`` reverses, ``Enter`` opens a worker or server and ``Esc`` closes it; ``?``
shows them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.styles import Style

from apihour.errors import ApihourError
from apihour_console.calls.call import Call, Identity, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.shell.top_model import Line, TopModel
from apihour_console.text.render import clean, table

if TYPE_CHECKING:
    from apihour_console.shell.editor import LineEditor
    from apihour_console.shell.runner import FleetLike

__all__ = ["Top"]

_REFRESH = 1.0  # seconds between looks
_ESCAPE = 0.1  # seconds in which Esc may turn out to begin another key
_DETAIL = 12  # rows of each list in an opened worker or server
_FOOTER = " q quit  ? help  ↑↓ choose  Tab table  < > sort  r reverse  Enter open  Esc close "
_HELP = """
q  Ctrl-C     leave
up down  k j  choose a row
Tab           the other table: workers, servers
< >  ← →      the column to sort by, the one with the *
r             reverse the order
Enter         open the row: its connections, and a worker's stack
Esc           close it
?  h          this, and back

STATE   serving, starting, draining, exiting, suspended; stuck: its loop answers nothing
LAG     how late the loop is; CPU in percent of one; RSS the memory of the process
REQ/S, NEW/S, ERR/S are per second; the bars are the last minute's requests.
"""
_STYLE = Style.from_dict({
    "bold": "bold", "warn": "ansiyellow", "bad": "ansired bold", "selected": "reverse",
    "footer": "reverse",
})


class Top:
    """One running ``top``; :meth:`run` returns when the operator leaves."""

    def __init__(
        self, fleet: FleetLike, identity: Identity, editor: LineEditor, title: str
    ) -> None:
        self._fleet = fleet
        self._identity = identity
        self._editor = editor
        self._title = title
        self._opened = False
        self._helping = False
        self._detail: list[Line] = []
        self.model = TopModel()
        body = Window(FormattedTextControl(self._text, show_cursor=False), wrap_lines=False)
        footer = Window(FormattedTextControl([("class:footer", _FOOTER)]), height=1)
        self._application: Application[None] = Application(
            layout=Layout(HSplit([body, footer])), key_bindings=self._bindings(), style=_STYLE,
            full_screen=True, input=editor.input, output=editor.output,
        )
        # Esc is a key of its own here; keys of several characters come in one piece.
        self._application.ttimeoutlen = self._application.timeoutlen = _ESCAPE

    async def run(self) -> None:
        """Show it until ``q``, Ctrl-C or the end of the connection."""
        looking = asyncio.get_running_loop().create_task(self._look())
        try:
            await self._editor.run_application(self._application)
        except EOFError:
            return
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            started = time.monotonic()
            found = await self._ask("top")
            problems = [f"worker {one.worker}: {one.reason}" for one in found.missing]
            self.model.update(found.rows, [*problems, *([found.error] if found.error else [])])
            if self._opened:
                self._detail = await self._open()
            self._application.invalidate()
            await asyncio.sleep(max(0.1, _REFRESH - (time.monotonic() - started)))

    async def _ask(self, *words: str) -> Result:
        try:
            call: Call = parse_call(words, self._fleet.catalogue)
            self._identity.check(call.command)
            return await self._fleet.execute(call, self._identity)
        except ApihourError as error:
            return Result(status=error.exit_status, error=str(error))

    async def _open(self) -> list[Line]:
        """The lists of the selected worker or server."""
        kind, name = self.model.current()
        if not name:
            return []
        if kind == "worker":
            asked = {
                "connections": ["conns", "--worker", name, "--limit", str(_DETAIL)],
                "stack": ["stack", name],
            }
        else:
            asked = {"connections": ["conns", "--filter", f"server={name}",
                                     "--limit", str(_DETAIL)]}
        lines = [Line(""), Line(f"{kind} {name}", "bold")]
        for title, words in asked.items():
            result = await self._ask(*words)
            text = result.text or table(result.columns, result.rows, self._columns, False)
            lines.append(Line(f"{title}: {result.error or ('none' if not text else '')}"))
            lines += [Line("  " + one) for one in clean(text).splitlines()]
        return lines

    @property
    def _columns(self) -> int:
        return self._editor.terminal.columns

    def _text(self) -> StyleAndTextTuples:
        lines = self.model.lines(self._columns, self._title)
        if self._helping:
            lines = [*lines[:1], *(Line(one[: self._columns]) for one in _HELP.splitlines())]
        elif self._opened:
            lines += self._detail
        return [
            (f"class:{'selected' if line.selected else line.style or 'plain'}", line.text + "\n")
            for line in lines
        ]

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        def bind(action: Callable[[], Any], *keys: str) -> None:
            def run(event: KeyPressEvent) -> None:
                action()
                event.app.invalidate()

            for key in keys:
                bindings.add(key)(run)

        bind(lambda: self._application.exit(), "q", "c-c", "c-d")
        bind(lambda: self.model.move(-1), "up", "k")
        bind(lambda: self.model.move(1), "down", "j")
        bind(self.model.switch, "tab")
        bind(lambda: self.model.sort_by(-1), "<", "left")
        bind(lambda: self.model.sort_by(1), ">", "right")
        bind(self._reverse, "r")
        bind(lambda: self._set_opened(True), "enter")
        bind(self._close, "escape")
        bind(self._toggle_help, "?", "h")
        return bindings

    def _reverse(self) -> None:
        self.model.reverse = not self.model.reverse

    def _set_opened(self, opened: bool) -> None:
        self._opened = opened
        self._detail = []

    def _toggle_help(self) -> None:
        self._helping = not self._helping

    def _close(self) -> None:
        if self._helping:
            self._helping = False
        else:
            self._set_opened(False)
