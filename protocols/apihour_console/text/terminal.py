"""One terminal at the other end of a channel: bytes in become text for whoever reads now.

Rules:

- Nothing here blocks: text without a reader waits, bounded; past the bound the channel is
  told to pause, so a hundred kilobytes pasted cost their own session only.
- UTF-8 is decoded incrementally; a bad byte becomes one replacement character.
- Ctrl-C while a command runs reaches the command, whatever waits in front of it.
- Newlines go out as CR LF when the other end is a terminal.
- A client that takes none of its output is cut off before that fills the memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from typing import Protocol

__all__ = ["ENTER_SCREEN", "LEAVE_SCREEN", "Terminal", "TerminalChannel"]

# The alternate screen of xterm(1): what was there before is there again when it is left.
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[H\x1b[2J", "\x1b[?1049l"

_BACKLOG = 64 * 1024  # characters typed ahead before the channel is paused
_UNREAD = 4 * 1024 * 1024  # bytes of output that may wait for the client
_INTERRUPT = "\x03"
_PLAIN_TERMINALS = ("", "dumb", "unknown")


class TerminalChannel(Protocol):
    """What a terminal needs of the connection below it; asyncssh's channels have it."""

    def write(self, data: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def abort(self) -> None: ...


class Terminal:
    """The operator's terminal: its size and abilities, and who gets what they type."""

    def __init__(
        self, channel: TerminalChannel, kind: str = "", size: tuple[int, int] = (0, 0),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = environment or {}
        self.channel = channel
        self.kind = kind
        self.columns, self.rows = 80, 24
        self.is_dumb = kind.lower() in _PLAIN_TERMINALS
        self.colour = not self.is_dumb and not environment.get("NO_COLOR")
        self.interrupted: Callable[[], None] | None = None
        self.resized: Callable[[], None] | None = None
        self.closed = False
        self.hung_up = False
        self._reader: Callable[[str], None] | None = None
        self._backlog: list[str] = []
        self._waiting = 0
        self._paused = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.resize(*size)

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has that many columns and rows now; silly values are kept sane."""
        self.columns = min(max(columns, 20), 1000) if columns else 80
        self.rows = min(max(rows, 5), 500) if rows else 24
        if self.resized is not None:
            self.resized()

    def feed(self, data: bytes) -> None:
        """Bytes came from the other end."""
        text = self._decoder.decode(data)
        if self.interrupted is not None and _INTERRUPT in text:
            _, _, text = text.rpartition(_INTERRUPT)  # as a tty does: what was typed is flushed
            self.drop_backlog()
            self.interrupted()
        if not text:
            return
        if self._reader is not None:
            self._reader(text)
            return
        self._backlog.append(text)
        self._waiting += len(text)
        if self._waiting > _BACKLOG and not self._paused:
            self._paused = True
            self.channel.pause_reading()

    def hang_up(self) -> None:
        """Nothing will be typed any more; who reads is told by an empty text."""
        self.hung_up = True
        if self._reader is not None:
            self._reader("")

    def attach(self, reader: Callable[[str], None]) -> None:
        """Give what is typed to `reader`, beginning with what waits."""
        self._reader = reader
        while self._backlog and self._reader is not None:
            text = self._backlog.pop(0)
            self._waiting -= len(text)
            self._reader(text)
        if not self._backlog and self._paused:
            self._paused = False
            self.channel.resume_reading()

    def detach(self, unread: str = "") -> None:
        """Nobody reads now; `unread` is put back in front of what waits."""
        self._reader = None
        if unread:
            self._backlog.insert(0, unread)
            self._waiting += len(unread)

    def take_interrupt(self) -> bool:
        """Whether Ctrl-C waits unread; it and what was typed before it are dropped."""
        text = "".join(self._backlog)
        if _INTERRUPT not in text:
            return False
        self.drop_backlog()
        self.detach(text.rpartition(_INTERRUPT)[2])
        return True

    def drop_backlog(self) -> None:
        """Forget what was typed while nobody read."""
        self._backlog.clear()
        self._waiting = 0
        if self._paused:
            self._paused = False
            self.channel.resume_reading()

    def write(self, text: str) -> None:
        """Send text; a newline becomes CR LF. Does nothing once the other end is gone."""
        self.write_raw(text.replace("\r\n", "\n").replace("\n", "\r\n"))

    def write_raw(self, text: str) -> None:
        """Send text as it is: cursor movements of a full-screen program."""
        if self.closed:
            return
        self.channel.write(text.encode("utf-8", "replace"))
        if self.channel.get_write_buffer_size() > _UNREAD:
            self.closed = True
            self.channel.abort()
