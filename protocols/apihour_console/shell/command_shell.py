"""The shell of one session: reads lines, runs them, and survives everything they do.

Rules:

- A command runs in its own task: Ctrl-C cancels that task and nothing else.
- Without prompt_toolkit, or on a dumb terminal, lines are still read and commands still run.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from apihour_console.calls.call import Call, Identity
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.completion import Candidate, CompleteFunction, complete
from apihour_console.shell.hidden import has_secret
from apihour_console.shell.history import LineHistory, history_path
from apihour_console.shell.repl import Repl, wants_more
from apihour_console.shell.runner import CANCELLED, FleetLike, LeaveShell, Runner
from apihour_console.text.fit import reflow
from apihour_console.text.pager import page
from apihour_console.text.plain import PlainEditor
from apihour_console.text.render import paint
from apihour_console.text.sink import Sink
from apihour_console.text.terminal import Terminal

if TYPE_CHECKING:
    from apihour_console.shell.editor import LineEditor

__all__ = ["CommandShell", "ShellContext"]

_VALUES_TIMEOUT = 0.5  # seconds that completion waits for live values


@dataclass(frozen=True)
class ShellContext:
    """What a session is given; `directory`: where histories are kept."""

    fleet: FleetLike
    audit: AuditLog
    identity: Identity
    logger: logging.Logger
    name: str = "apihour"
    greeting: str = ""
    directory: Path | None = None


class Editor(Protocol):
    """What reads lines."""

    async def read_line(self, prompt: str) -> str: ...
    def close(self) -> None: ...
    def drop_typeahead(self) -> None: ...
    def take_interrupt(self) -> bool: ...
    def take_over(self, other: Any) -> None: ...


class _PagedSink:
    """The sink of an interactive session: long output stops at each screen."""

    leaves_unnoticed = False

    def __init__(self, below: Sink, terminal: Terminal) -> None:
        self._below = below
        self._terminal = terminal

    @property
    def width(self) -> int | None:
        return self._terminal.columns

    @property
    def height(self) -> int | None:
        return None if self._terminal.is_dumb else self._terminal.rows

    @property
    def colour(self) -> bool:
        return self._terminal.colour

    async def out(self, text: str) -> None:
        await page(text, self._terminal, self._below.out)

    async def draw(self, text: str) -> None:
        await self._below.draw(text)

    async def err(self, text: str) -> None:
        await self._below.err(text)


class CommandShell:
    """Runs commands for one session; `terminal` is None where there is none."""

    def __init__(self, context: ShellContext, sink: Sink, terminal: Terminal | None) -> None:
        self.context = context
        self.terminal = terminal
        self.sink = sink
        self.editor: Editor | None = None
        self.runner = self._make_runner(sink)
        self._command: asyncio.Task[int] | None = None
        self._names = f"console-{secrets.token_hex(8)}"  # those of Python: nobody else's, ever
        self._touched = time.monotonic()

    def _make_runner(self, sink: Any) -> Runner:
        return Runner(
            self.context.fleet, self.context.audit, self.context.identity, sink,
            {"exit": self._exit, "clear": self._clear, "top": self._top,
             "python": self._python},
        )

    def touch(self) -> None:
        """Something was typed."""
        self._touched = time.monotonic()

    @property
    def idle(self) -> float:
        """Seconds since something was typed or a command ran."""
        return 0.0 if self._command is not None else time.monotonic() - self._touched

    @property
    def current(self) -> str:
        """The command that runs, as typed; empty between commands."""
        return self.runner.current

    def interrupt(self) -> None:
        """Cancel the running command, if there is one."""
        if self._command is not None:
            self._command.cancel()

    def hang_up(self) -> None:
        """The other end is gone: whoever reads gets the end of input."""
        if self.editor is not None:
            self.editor.close()
        if self.terminal is not None:
            self.terminal.hang_up()

    async def run_command(self, line: str) -> int:
        """Run one line; Ctrl-C gives status 130."""
        try:
            return await self._guard(self.runner.run_line(line))
        except LeaveShell:
            return 0

    async def _guard(self, work: Coroutine[Any, Any, int]) -> int:
        """Await `work` in a task of its own that Ctrl-C cancels; status 130 if it did."""
        task = asyncio.get_running_loop().create_task(work)
        outer, self._command = self._command, task
        if self.terminal is not None:
            self.terminal.interrupted = self._interrupted
            if self._is_interrupted(self.terminal):
                task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # it is the session that ends
            return CANCELLED
        finally:
            self._command = outer
            self.touch()
            if self.terminal is not None:
                self.terminal.interrupted = None

    def _interrupted(self) -> None:
        """Ctrl-C while a command runs: what was typed ahead of it is dropped, as by a tty."""
        if self.editor is not None:
            self.editor.drop_typeahead()
        self.interrupt()

    def _is_interrupted(self, terminal: Terminal) -> bool:
        """Whether Ctrl-C came right behind the command, before the command could hear it."""
        typed = self.editor is not None and self.editor.take_interrupt()
        return terminal.take_interrupt() or typed

    # Commands of the shell itself.

    async def _exit(self, call: Call) -> int:
        raise LeaveShell

    async def _clear(self, call: Call) -> int:
        """Erase the screen and what was scrolled off it (ECMA-48 ED, xterm's 3 J)."""
        if self.terminal is not None and not self.terminal.is_dumb:
            self.terminal.write_raw("\x1b[H\x1b[2J\x1b[3J")
        return 0

    async def _execute(self, call: Call) -> int:
        found = await self.context.fleet.execute(call, self.context.identity)
        return await self.runner.show(call, found)

    async def _top(self, call: Call) -> int:
        """A full screen where there is one; else one look."""
        terminal = self.terminal
        plain = call.json or call.csv or call.sort or call.filters or call.limit is not None
        editor = None if plain or terminal is None else self._full_editor(terminal)
        if terminal is None or editor is None:
            return await self._execute(call)
        from apihour_console.shell.top import Top

        terminal.interrupted = None  # Ctrl-C is a key of the screen's
        await Top(self.context.fleet, self.context.identity, editor, self.context.name).run()
        return 0

    async def _python(self, call: Call) -> int:
        """A prompt where there is a terminal and no source was given."""
        terminal = self.terminal
        worker = str(call.arguments.get("worker") or "")
        if terminal is None or not worker or call.arguments.get("source") or call.json:
            return await self._execute(call)
        repl = Repl(self.runner, worker, self._names)
        editor = self._make_editor(terminal, self.history("python"), repl.complete, wants_more)
        shell_editor, self.editor = self.editor, editor
        if shell_editor is not None:
            editor.take_over(shell_editor)
        status = -1

        async def ask(prompt: str) -> str:
            terminal.interrupted = None
            return await editor.read_line(prompt)

        try:
            status = await repl.loop(ask, self._guard, terminal.write)
            return status
        finally:
            self.editor = shell_editor
            if shell_editor is not None and status == 0:
                shell_editor.take_over(editor)  # typed after the end; else it was Python's
            if shell_editor is not None and terminal.closed:
                shell_editor.close()

    # The interactive shell.

    async def interact(self) -> int:
        """Read and run lines until ``exit``, Ctrl-D or the end of the connection."""
        terminal = self.terminal
        if terminal is None:
            raise RuntimeError("an interactive session without a terminal; expected one")
        self.runner = self._make_runner(_PagedSink(self.sink, terminal))
        self.editor = self._make_editor(terminal, self.history(), self._complete)
        if self.context.greeting:
            terminal.write(reflow(self.context.greeting, terminal.columns) + "\n")
        try:
            return await self._read_and_run(terminal, self.editor)
        finally:
            self.editor.close()

    async def _read_and_run(self, terminal: Terminal, editor: Editor) -> int:
        prompt = f"{self.context.name}> "
        if not terminal.is_dumb:
            # Where there are no colours the output drops it; a blank that has one is really
            # written, and not only passed over, so that programs that wait for it see it.
            prompt = paint(prompt, "cyan")
        while True:
            try:
                text = await editor.read_line(prompt)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            for number, line in enumerate(lines := text.splitlines(), 1):
                opens = _opens_python(line)
                if opens and lines[number:]:
                    terminal.write(f"{line.strip()}: the lines pasted behind it are Python's, "
                                   "not commands: dropped; paste them at its prompt\n")
                try:
                    status = await self._guard(self.runner.run_line(line))
                except LeaveShell:
                    return 0
                if status == CANCELLED:
                    terminal.write("^C\n")
                if opens and status:  # it did not start: what was typed ahead was for it
                    editor.drop_typeahead()
                    terminal.drop_backlog()
                if opens or status == CANCELLED:
                    break

    def _make_editor(
        self, terminal: Terminal, history: LineHistory, complete: CompleteFunction,
        multiline: Callable[[str], bool] | None = None,
    ) -> Editor:
        if terminal.is_dumb:
            return PlainEditor(terminal)
        try:
            from apihour_console.shell.editor import LineEditor
        except ImportError:
            return PlainEditor(terminal)
        return LineEditor(terminal, history, complete, multiline)

    def _full_editor(self, terminal: Terminal) -> LineEditor | None:
        """The line editor of the session, or a new one; None where there can be none."""
        if self.editor is None:
            self.editor = self._make_editor(
                terminal, LineHistory(None, self.context.logger), self._complete
            )
        return None if isinstance(self.editor, PlainEditor) else cast("LineEditor", self.editor)

    def history(self, kind: str = "") -> LineHistory:
        """The lines this user typed before, in the shell or, by `kind`, elsewhere."""
        identity = self.context.identity
        user = (identity.fingerprint or identity.name) + kind
        if identity.certificate:  # an authority's fingerprint is that of many
            user += f" {identity.name}"
        directory = self.context.directory
        path = history_path(directory, user) if directory is not None else None
        catalogue = None if kind else self.context.fleet.catalogue
        is_secret = functools.partial(has_secret, catalogue=catalogue)
        return LineHistory(path, self.context.logger, is_secret)

    async def _complete(self, text: str) -> AsyncGenerator[Candidate, None]:
        role = self.context.identity.role
        found = complete(text, self.context.fleet.catalogue, role, self._values)
        async for one in found:
            yield one

    async def _values(self, kind: str) -> list[str]:
        try:
            async with asyncio.timeout(_VALUES_TIMEOUT):
                return list(await self.context.fleet.values(kind))
        except TimeoutError:
            return []


def _opens_python(line: str) -> bool:
    """Whether a line asks for Python's prompt: what follows is not for the shell."""
    words = line.split()
    return words[:1] == ["python"] and len(words) <= 2
