"""A long text as screens: where we are in it, and what each key does.

Rules:

- No I/O and no clock; a terminal's size and keys come in, lines go out.
- A line wider than the terminal takes as many lines as it needs; colours (ECMA-48 SGR) go on
  in the next one, and take no room.
- What is searched for is text, case is ignored unless there is a capital in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from apihour_console.text.render import cell_width

__all__ = ["HELP", "Pages", "screen_lines"]

_SGR = re.compile(r"(\x1b\[[0-9;]*m)")
_RESET = "\x1b[0m"
_QUERY = 200  # characters of a search

HELP = (
    "space f PgDn    a screen on             b PgUp      a screen back\n"
    "enter j Down    a line on               k y Up      a line back\n"
    "g Home          the beginning           G End       the end\n"
    "/TEXT enter     search; n the next one, N the one before\n"
    "a               print all that is left  q           leave\n"
)

_MOVES = {
    " ": "screen", "f": "screen", "\x06": "screen", "\x1b[6~": "screen",
    "b": "-screen", "\x02": "-screen", "\x1b[5~": "-screen",
    "\r": "line", "\n": "line", "j": "line", "e": "line", "\x1b[B": "line", "\x1bOB": "line",
    "k": "-line", "y": "-line", "\x1b[A": "-line", "\x1bOA": "-line",
    "d": "half", "\x04": "half", "u": "-half", "\x15": "-half",
    "g": "first", "\x1b[H": "first", "\x1bOH": "first", "\x1b[1~": "first", "<": "first",
    "G": "last", "\x1b[F": "last", "\x1bOF": "last", "\x1b[4~": "last", ">": "last",
}


def screen_lines(text: str, columns: int) -> list[str]:
    """The lines of a terminal that `text` takes, each with the colour it begins in."""
    return [piece for line in text.splitlines() for piece in _pieces(line, columns)]


def _pieces(line: str, columns: int) -> Iterator[str]:
    if len(line) <= columns and line.isascii():
        yield line
        return
    piece, used, colour = "", 0, ""
    for part in _SGR.split(line):
        if _SGR.fullmatch(part):
            colour = "" if part in (_RESET, "\x1b[m") else part
            piece += part
            continue
        for character in part:
            cells = cell_width(character)
            if used + cells > columns:
                yield piece + _RESET * bool(colour)
                piece, used = colour, 0
            piece += character
            used += cells
    yield piece


@dataclass
class Pages:
    """The state of one look at a text; `rows` and `columns` are the terminal's."""

    text: str
    columns: int
    rows: int
    top: int = 0
    query: str | None = None
    """What is being typed after ``/``; None outside a search."""
    note: str = ""
    helping: bool = False
    _needle: str = ""
    _lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lines = screen_lines(self.text, self.columns)

    def resize(self, columns: int, rows: int) -> None:
        """Lay the text out anew; about what was at the top stays there."""
        share = self.top / max(1, len(self._lines))
        self.columns, self.rows = columns, rows
        self._lines = screen_lines(self.text, columns)
        self.top = int(share * len(self._lines))
        self._bound()

    @property
    def step(self) -> int:
        """Lines of text on a screen."""
        return max(1, self.rows - 1)

    @property
    def is_at_end(self) -> bool:
        """Whether the last line is on the screen."""
        return self.top + self.step >= len(self._lines)

    def screen(self) -> list[str]:
        """The lines of text on the screen now."""
        shown = self._lines[self.top : self.top + self.step]
        if self.helping:
            return HELP.splitlines()[: self.step]
        if not self._needle:
            return shown
        return [_marked(line, self._needle) for line in shown]

    def rest(self) -> str:
        """All from the top of the screen on, as it was given."""
        return "".join(line + "\n" for line in self._lines[self.top :])

    def status(self) -> str:
        """The last line of the screen, cut to the terminal."""
        if self.query is not None:
            return f"/{self.query}"[-(self.columns - 1):]
        if self.helping:
            return "-- any key goes back --"[: self.columns - 1]
        last = min(self.top + self.step, len(self._lines))
        where = "end" if self.is_at_end else f"{100 * last // len(self._lines)}%"
        note = f" {self.note}" if self.note else ""
        text = f"-- more {self.top + 1}-{last} of {len(self._lines)} ({where}){note}: "
        return f"{text}space, b(ack), /search, h(elp), q(uit) --"[: self.columns - 1]

    def press(self, key: str) -> str:
        """Do what a key asks for; ``quit`` or ``all`` when that ends it, else nothing."""
        self.note = ""
        if self.query is not None:
            self._type(key)
        elif self.helping:
            self.helping = False
        elif key in ("q", "Q", "\x03"):
            return "quit"
        elif key == "a":
            return "all"
        elif key in ("h", "?"):
            self.helping = True
        elif key == "/":
            self.query = ""
        elif key in ("n", "N"):
            self._find(1 if key == "n" else -1)
        elif key in _MOVES:
            return self._move(_MOVES[key], key)
        return ""

    def _move(self, what: str, key: str) -> str:
        if self.is_at_end and key in (" ", "\r", "\n", "f"):
            return "quit"  # read to the end, as with more
        steps = {"screen": self.step, "line": 1, "half": max(1, self.step // 2)}
        if what == "first":
            self.top = 0
        elif what == "last":
            self.top = len(self._lines)
        elif what[0] == "-":
            self.top -= steps[what[1:]]
        else:
            self.top += steps[what]
        self._bound()
        return ""

    def _bound(self) -> None:
        self.top = max(0, min(self.top, len(self._lines) - self.step))

    def _type(self, key: str) -> None:
        """A key of what is searched for."""
        query = self.query or ""
        if key in ("\r", "\n"):
            self._needle, self.query = query or self._needle, None
            self._find(1, self.top)
        elif key in ("\x03", "\x07", "\x1b") or (key in ("\x7f", "\b") and not query):
            self.query = None
        elif key in ("\x7f", "\b"):
            self.query = query[:-1]
        elif key == "\x15":
            self.query = ""
        elif len(key) == 1 and key.isprintable() and len(query) < _QUERY:
            self.query = query + key

    def _find(self, step: int, start: int | None = None) -> None:
        """Go to the next line with the text, from the one behind the top on; round the end."""
        if not self._needle:
            self.note = "(nothing searched for yet)"
            return
        pattern = _pattern(self._needle)
        count = len(self._lines)
        first = self.top + step if start is None else start
        for distance in range(count):
            index = (first + step * distance) % count
            if pattern.search(_SGR.sub("", self._lines[index])):
                if (index < self.top) == (step > 0) and index != self.top:
                    self.note = "(from the other end)"
                self.top = index
                self._bound()
                return
        self.note = f"({self._needle[:20]!r} is not there)"


def _pattern(needle: str) -> re.Pattern[str]:
    return re.compile(re.escape(needle), 0 if needle != needle.lower() else re.IGNORECASE)


def _marked(line: str, needle: str) -> str:
    """`line` with what was found in reverse; colours are left out of such a line."""
    bare = _SGR.sub("", line)
    if not _pattern(needle).search(bare):
        return line
    return _pattern(needle).sub(lambda match: f"\x1b[7m{match[0]}\x1b[27m", bare)
