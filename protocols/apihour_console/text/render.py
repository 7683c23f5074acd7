"""Rows become text: a table for people, JSON and CSV for programs.

Rules:

- Pure functions over data; a thousand rows take a few milliseconds.
- Whatever came from a peer, a log or a worker loses its control characters before it is
  printed, in every format: an escape sequence never reaches the operator's terminal.
- JSON is an array of objects (one object per line when streaming); CSV has a header line.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from apihour.blame import is_user_code
from apihour.ops.model import Column
from apihour_console.text.fit import Fit, fit, reflow, short_title

__all__ = [
    "RowPrinter", "cell_width", "clean",
    "csv_text", "format_value", "json_line", "json_text", "paint", "table",
]

# C0 (but tab and newline), DEL, C1, the marks that reorder or hide text (UAX #9), and halves of
# surrogates: some would be written as the byte that they stand for, which may be of C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
                      r"\ud800-\udfff]")
_RIGHT = frozenset(("int", "float", "seconds", "bytes", "percent"))
_ASCII = re.compile(r"[\x20-\x7e]*")
_STREAM_WIDTH = 40  # characters up to which a stream's columns are kept in line

_COLOURS = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36",
}
_WORDS = {
    "serving": "green", "up": "green", "ok": "green", "healthy": "green", "true": "green",
    "starting": "cyan", "draining": "yellow", "exiting": "yellow", "suspended": "yellow",
    "warning": "yellow", "degraded": "yellow",
    "blocked": "red", "stuck": "red", "stopped": "red", "silent": "red", "missing": "red",
    "dead": "red", "failed": "red", "down": "red", "error": "red", "critical": "red",
}


def clean(text: str) -> str:
    """`text` without control characters; tabs become blanks, newlines stay."""
    return _CONTROL.sub("", text).replace("\t", "    ")


def paint(text: str, colour: str) -> str:
    """`text` in an ANSI colour (ECMA-48 SGR): ``bold``, ``red``..."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def format_value(value: Any, kind: str = "any") -> str:
    """One cell for people, in one line: sizes and times get units, None is ``-``."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, kind)
    if isinstance(value, str):
        text = value
    elif isinstance(value, list | tuple):
        text = ", ".join(format_value(one) for one in value)
    else:
        text = json.dumps(value, default=str)
    return clean(text).replace("\n", " ")


def _number(value: float, kind: str) -> str:
    if kind == "seconds":
        return duration(value)
    if kind == "bytes":
        return "-" if value < 0 else size(value)
    if kind == "percent":
        return f"{value:.1f}%"
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """``250us``, ``3.2ms``, ``4.5s``, ``3m05s``, ``2h03m``, ``5d04h``."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 10:
        for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
            if seconds * factor >= 1:
                return f"{seconds * factor:.3g}{unit}"
        return "0s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size(amount: float) -> str:
    """``512``, ``1.5K``, ``20.1M``; powers of 1024."""
    for unit in ("", "K", "M", "G"):
        if abs(amount) < 1024:
            return f"{amount:.0f}" if not unit else f"{amount:.1f}{unit}"
        amount /= 1024
    return f"{amount:.1f}T"


def json_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """An array of objects, one object a line."""
    if not rows:
        return "[]\n"
    return "[" + ",\n ".join(json_line(row) for row in rows) + "]\n"


def json_line(row: Mapping[str, Any]) -> str:
    """One object in one line, pure ASCII: control characters are escaped by JSON itself."""
    return json.dumps(row, default=str)


def csv_text(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], header: bool = True
) -> str:
    """CSV (RFC 4180) with plain newlines; numbers stay numbers, in the units of the JSON.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    names = [column.name for column in columns]
    if header:
        writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])
    return target.getvalue()


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    text = clean(value if isinstance(value, str) else json.dumps(value, default=str))
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int | None = None,
    colour: bool = False, keep: Collection[str] = (),
) -> str:
    """A table with a header line, also over no rows.

    `width`: of the terminal in characters, None: no limit; what does not fit is left out and
    named in a last line, columns named in `keep` after all others.
    A column of several lines goes below its row, indented; of a stack the application's frames.
    """
    if not columns:
        return ""
    blocks = _block_columns(columns, rows)
    columns = [column for column in columns if column.name not in blocks]
    cells = [[format_value(row.get(c.name), c.type) for c in columns] for row in rows]
    names = [column.name for column in columns]
    widest = [max(map(_cells, column), default=0) for column in zip(*cells, strict=True)]
    texts = [column.type not in _RIGHT for column in columns]
    found = fit(names, widest or [0] * len(names), texts, width, keep)
    lines = _table_lines(columns, cells, found, colour)
    shown = lines[:1]
    for row, line in zip(rows, lines[1:] or [""] * len(rows), strict=True):
        shown += [line] * bool(columns) + _block_lines(row, blocks)
    left = [name for index, name in enumerate(names) if index not in found.columns]
    return "\n".join(shown + _left_out(left, width, colour)) + "\n"


def _table_lines(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], found: Fit, colour: bool
) -> list[str]:
    """The header and the rows of the columns that fit."""
    if not columns:
        return []
    kept = [columns[index] for index in found.columns]
    right = [column.type in _RIGHT for column in kept]
    titles = [short_title(one.name) if found.short else one.name.upper() for one in kept]
    header = _line(titles, found.widths, right, gap=found.gap)
    lines = [paint(header, "bold") if colour else header]
    for values in cells:
        wanted = [values[index] for index in found.columns]
        lines.append(_line(wanted, found.widths, right, colour, found.gap))
    return lines


def _left_out(names: Sequence[str], width: int | None, colour: bool) -> list[str]:
    """What to say of columns that did not fit."""
    if not names or width is None:
        return []
    text = f"(no room for {', '.join(names)}: a wider terminal, --json or --csv shows them)"
    lines = reflow(text, width).split("\n")
    return [paint(line, "dim") for line in lines] if colour else lines


class RowPrinter:
    """Rows of a stream, one line each, aligned with those before as far as that is known."""

    def __init__(self, columns: Sequence[Column], colour: bool) -> None:
        self._columns = columns
        self._colour = colour
        self._right = [column.type in _RIGHT for column in columns]
        self._widths = [len(column.name) for column in columns]
        self._started = False

    def text(self, row: Mapping[str, Any]) -> str:
        """The line of a row; a header line goes before the first."""
        values = [format_value(row.get(column.name), column.type) for column in self._columns]
        for index, value in enumerate(values[:-1]):
            self._widths[index] = min(max(self._widths[index], _cells(value)), _STREAM_WIDTH)
        header = "" if self._started else self._header()
        self._started = True
        return header + self._line(values) + "\n"

    def _header(self) -> str:
        line = self._line([column.name.upper() for column in self._columns])
        return (paint(line, "bold") if self._colour else line) + "\n"

    def _line(self, values: Sequence[str]) -> str:
        widths = [max(width, _cells(value))
                  for width, value in zip(self._widths, values, strict=True)]
        return _line(values, widths, self._right, self._colour)


def _block_columns(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Names and types of the columns that go below."""
    found = {one.name: one.type for one in columns if one.type in ("str", "any", "stack")}
    return {name: kind for name, kind in found.items() if kind == "stack" or any(
        isinstance(v := row.get(name), str) and "\n" in v for row in rows)}


def _own_frames(stack: str) -> str:
    """The application's frames of a stack; all of one that has none."""
    own = [line for line in stack.split("\n") if is_user_code(line)]
    return "\n".join(own) or stack


def _block_lines(row: Mapping[str, Any], blocks: Mapping[str, str]) -> list[str]:
    texts = [str(row.get(name) or "") for name in blocks]
    texts = [_own_frames(text) if kind == "stack" else text
             for text, kind in zip(texts, blocks.values(), strict=True)]
    return ["    " + line for text in texts for line in clean(text).rstrip().split("\n") if line]


def _line(
    values: Sequence[str], widths: Sequence[int], right: Sequence[bool], colour: bool = False,
    gap: int = 2,
) -> str:
    parts = []
    for value, width, to_right in zip(values, widths, right, strict=True):
        count = _cells(value)
        if count > width:
            value, count = _cut(value, width)
        pad = " " * (width - count)
        if colour and (name := _WORDS.get(value.partition(" ")[0].lower())):
            value = paint(value, name)
        parts.append(pad + value if to_right else value + pad)
    return (" " * gap).join(parts).rstrip()


def _cells(text: str) -> int:
    """Columns of a terminal that `text` takes: wide characters two, combining ones none."""
    if _ASCII.fullmatch(text):
        return len(text)
    return sum(cell_width(character) for character in text)


def cell_width(character: str) -> int:
    """Columns of a terminal that one character takes."""
    if unicodedata.combining(character) or character in "\u200b\u200c\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, width: int) -> tuple[str, int]:
    """`text` cut to `width` columns with ``…`` at its end, and the columns it takes."""
    taken, used = [], 0
    for character in text:
        cell = cell_width(character)
        if used + cell > width - 1:
            break
        taken.append(character)
        used += cell
    return "".join(taken) + "…", used + 1
