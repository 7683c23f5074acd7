"""One session of the shell over an SSH channel: interactive, one command, or a script.

Rules:

- With a terminal and no command: the interactive shell. A command: run it, exit with its
  status. Neither: commands from stdin, a line each; nothing there: a hint and status 2.
- Output waits for a slow reader and never for the loop; a reader that went away
  (``| head -1``, a closed connection) cancels the command, in the workers too.
- Ctrl-C, a break and SIGINT cancel the running command.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import asyncssh

from apihour_console.shell.command_shell import CommandShell, ShellContext
from apihour_console.shell.runner import CANCELLED
from apihour_console.text.terminal import Terminal

__all__ = ["Session"]

_CHUNK = 32 * 1024  # bytes written before a slow reader is waited for
_LINE = 16 * 1024  # bytes of one command read from stdin; twice that makes it wait
_numbers = itertools.count(1)

HINT = "apihour: no command and no terminal; try: ssh host help, or ssh -t host\n"


class Session(asyncssh.SSHServerSession[bytes]):
    """asyncssh's callbacks on one side, a :class:`CommandShell` on the other."""

    def __init__(
        self, context: ShellContext, logger: logging.Logger, ended: Callable[[Session], None]
    ) -> None:
        self.context = context
        self.identity = context.identity
        self.logger = logger
        self.started = time.monotonic()
        self.number = next(_numbers)
        self.shell: CommandShell | None = None
        self._ended = ended
        self._channel: Any = None
        self._pty: tuple[str, tuple[int, int]] | None = None
        self._command: str | None = None
        self._stdin = asyncio.StreamReader(_LINE)
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None
        self.terminal: Terminal | None = None
        self.width: int | None = None
        self.colour = False
        self.leaves_unnoticed = False

    # What asyncssh calls.

    def connection_made(self, chan: Any) -> None:
        self._channel = chan
        self._stdin.set_transport(chan)

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        self._pty = (term_type, (term_size[0], term_size[1]))
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        return False

    def session_started(self) -> None:
        if self._pty is not None:
            kind, size = self._pty
            self.terminal = Terminal(self._channel, kind, size, self._channel.get_environment())
            self.width, self.colour = self.terminal.columns, self.terminal.colour
        self.leaves_unnoticed = self.terminal is None or self._command is not None
        self._task = asyncio.get_running_loop().create_task(self._run())

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self.terminal is not None:
            self.terminal.resize(width, height)
            self.width = self.terminal.columns

    def data_received(self, data: bytes, datatype: Any) -> None:
        if self.shell is not None:
            self.shell.touch()
        if self.terminal is not None:
            self.terminal.feed(data)
        elif self._command is None:
            self._stdin.feed_data(data)

    def eof_received(self) -> bool:
        self._stdin.feed_eof()
        if self.shell is not None and self.terminal is not None:
            self.shell.hang_up()
        return True

    def break_received(self, msec: int) -> bool:
        self._interrupt()
        return True

    def signal_received(self, signal: str) -> None:
        if signal in ("INT", "TERM", "HUP", "QUIT"):
            self._interrupt()

    def reader_closed(self) -> None:
        """The client's own reader is gone: nobody will see any more output."""
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self.terminal is not None:
            self.terminal.closed = True
        if self.shell is not None:
            self.shell.hang_up()
        if self._task is not None:
            self._task.cancel()
        self._ended(self)

    # What the runner calls.

    async def out(self, text: str) -> None:
        await self._send(text, None)

    async def draw(self, text: str) -> None:
        await self.out(text)

    async def err(self, text: str) -> None:
        await self._send(text, None if self.terminal else asyncssh.EXTENDED_DATA_STDERR)

    async def _send(self, text: str, datatype: int | None) -> None:
        if self.terminal is not None:
            text = text.replace("\n", "\r\n")
        data = text.encode("utf-8", "replace")
        for start in range(0, len(data), _CHUNK):
            await self._writable.wait()
            if self._channel.is_closing():
                raise BrokenPipeError("the client is gone")
            self._channel.write(data[start : start + _CHUNK], datatype)

    @property
    def height(self) -> int | None:
        """Lines of the screen; None where there is none."""
        return self.terminal.rows if self.terminal and not self.terminal.is_dumb else None

    @property
    def idle(self) -> float:
        """Seconds since something was typed or a command ran."""
        return self.shell.idle if self.shell is not None else time.monotonic() - self.started

    def notify(self, text: str) -> None:
        """Tell an interactive operator something, whatever they are doing."""
        if self.terminal is not None and self._command is None:
            self.terminal.write(f"\n{text}\n")

    def close(self, reason: str) -> None:
        """End the session with a line to the operator."""
        if self._channel is None or self._channel.is_closing():
            return
        self._channel.write(f"\r\n{reason}\r\n".encode(),
                            None if self.terminal else asyncssh.EXTENDED_DATA_STDERR)
        if self._task is not None and not self._task.done():
            self._task.cancel()
        else:
            self._channel.close()

    def _interrupt(self) -> None:
        if self.shell is not None:
            self.shell.interrupt()

    async def _run(self) -> None:
        status = CANCELLED
        try:
            status = await self._serve()
        except (asyncio.CancelledError, ConnectionError):
            pass  # the channel below is closed, or about to be
        except ValueError as error:
            await self.err(f"apihour: line of stdin: {error}\n")
            status = 2
        except Exception:
            self.logger.exception("session of %s: internal error", self.context.identity.name)
            status = 1
        finally:
            if not self._channel.is_closing():
                self._channel.exit(min(status, 255))

    async def _serve(self) -> int:
        self.shell = CommandShell(self.context, self, self.terminal)
        if self._command is not None:
            return await self.shell.run_command(self._command)
        if self.terminal is not None:
            return await self.shell.interact()
        return await self._run_script(self.shell)

    async def _run_script(self, shell: CommandShell) -> int:
        """Run the lines of stdin as they come; the status is the last one's."""
        status: int | None = None
        while line := await self._stdin.readline():
            if line.strip():
                status = await shell.run_command(line.decode("utf-8", "replace"))
        if status is None:
            await self.err(HINT)
            return 2
        return status
