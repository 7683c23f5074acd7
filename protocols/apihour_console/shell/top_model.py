"""What ``top`` shows: workers and servers, sorted, with sparklines.

Rules: no I/O and no clock; rows of the command ``top`` come in, lines go out.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apihour.ops.model import Column
from apihour_console.text.render import duration, size

__all__ = ["SERVER_COLUMNS", "WORKER_COLUMNS", "Line", "TopModel", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_PAST = 60  # looks kept for the sparklines: a minute at one a second
_SPARK = 20  # characters of a row's sparkline

WORKER_COLUMNS = (
    Column("name", "str"), Column("state", "str"), Column("requests_s", "float"),
    Column("connections", "int"), Column("accepted_s", "float"), Column("errors_s", "float"),
    Column("cpu", "percent"), Column("rss", "bytes"), Column("lag", "seconds"),
)
SERVER_COLUMNS = (
    Column("name", "str"), Column("protocol", "str"), Column("requests_s", "float"),
    Column("connections", "int"), Column("accepted_s", "float"), Column("errors_s", "float"),
)
_TITLES = {
    "requests_s": "REQ/S", "connections": "CONNS", "accepted_s": "NEW/S", "errors_s": "ERR/S",
}


@dataclass(frozen=True)
class Line:
    """One line of the screen; `style` is bold, warn, bad or empty."""

    text: str
    style: str = ""
    selected: bool = False


@dataclass
class _Section:
    """One of the two tables."""

    title: str
    columns: tuple[Column, ...]
    sort: str = "name"
    rows: list[dict[str, Any]] = field(default_factory=list)
    sparks: dict[str, collections.deque[float]] = field(default_factory=dict)

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rows, and note their requests (or new connections) per second."""
        self.rows = [{**row, "protocol": row.get("state")} for row in rows]
        names = {str(row.get("name", "")) for row in rows}
        self.sparks = {name: past for name, past in self.sparks.items() if name in names}
        for row in rows:
            past = self.sparks.setdefault(str(row.get("name", "")), _past())
            past.append(_number(row, "requests_s") or _number(row, "accepted_s"))


def _past() -> collections.deque[float]:
    return collections.deque(maxlen=_PAST)


class TopModel:
    """The state of one ``top`` screen."""

    def __init__(self) -> None:
        self.sections = {
            "worker": _Section("WORKER", WORKER_COLUMNS),
            "server": _Section("SERVER", SERVER_COLUMNS),
        }
        self.focus = "worker"
        self.selected = 0
        self.reverse = False
        self.problems: list[str] = []
        self.totals = _past()

    def update(self, rows: Sequence[Mapping[str, Any]], problems: Sequence[str] = ()) -> None:
        """Take the rows of one look: those of the command ``top``."""
        for kind, section in self.sections.items():
            section.take([row for row in rows if row.get("kind") == kind])
        self.problems = list(problems)
        self.totals.append(_total(self.sections["worker"].rows, "requests_s"))

    # What keys do.

    def move(self, step: int) -> None:
        """Move the selection."""
        count = len(self.sections[self.focus].rows)
        self.selected = min(max(self.selected + step, 0), max(count - 1, 0))

    def switch(self) -> None:
        """Go to the other table."""
        self.focus = "server" if self.focus == "worker" else "worker"
        self.selected = 0

    def sort_by(self, step: int) -> None:
        """Sort by the next or the previous column."""
        section = self.sections[self.focus]
        names = [column.name for column in section.columns]
        section.sort = names[(names.index(section.sort) + step) % len(names)]

    def current(self) -> tuple[str, str]:
        """The kind and name of the selected row; the name is empty when there is none."""
        rows = self.sorted(self.focus)
        if not rows:
            return self.focus, ""
        return self.focus, str(rows[min(self.selected, len(rows) - 1)].get("name", ""))

    def sorted(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table in their order; numbers go from the largest."""
        section = self.sections[name]
        numeric = next(c for c in section.columns if c.name == section.sort).type != "str"

        def key(row: dict[str, Any]) -> tuple[Any, ...]:
            value = row.get(section.sort)
            return (0, float(value or 0)) if numeric else (1, *_natural(str(value)))

        return sorted(section.rows, key=key, reverse=numeric is not self.reverse)

    # What is shown.

    def lines(self, width: int, title: str) -> list[Line]:
        """The screen above the footer."""
        workers = self.sections["worker"].rows
        summary = (
            f"{title}  workers {len(workers)}  conns {_total(workers, 'connections'):.0f}  "
            f"req/s {_total(workers, 'requests_s'):.0f}  "
            f"err/s {_total(workers, 'errors_s'):.1f}  "
            f"cpu {_total(workers, 'cpu'):.0f}%  rss {size(_total(workers, 'rss'))}"
        )
        lines = [Line(summary[:width], "bold")]
        lines.append(Line("req/s " + sparkline(self.totals, min(_PAST, width - 8))))
        for kind in self.sections:
            lines.append(Line(""))
            lines += self._table(kind, width)
        lines += [Line(text[:width], "bad") for text in self.problems]
        return lines

    def _table(self, kind: str, width: int) -> list[Line]:
        section = self.sections[kind]
        rows = self.sorted(kind)
        cells = [[_cell(row.get(c.name), c.type) for c in section.columns] for row in rows]
        titles = [self._title(section, column.name) for column in section.columns]
        widths = [max(map(len, values)) for values in zip(titles, *cells, strict=True)]
        lines = [Line(_join(titles, widths, section.columns)[:width], "bold")]
        for number, (row, values) in enumerate(zip(rows, cells, strict=True)):
            past = section.sparks.get(str(row.get("name", "")), ())
            text = f"{_join(values, widths, section.columns)}  {sparkline(past, _SPARK)}"
            chosen = kind == self.focus and number == min(self.selected, len(rows) - 1)
            lines.append(Line(text[:width].ljust(width if chosen else 0), _style(row), chosen))
        return lines

    def _title(self, section: _Section, name: str) -> str:
        title = section.title if name == "name" else _TITLES.get(name, name.upper())
        return title + ("*" if name == section.sort else "")


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars, from zero to their maximum."""
    shown = list(values)[-max(width, 0):] if width > 0 else []
    top = max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(7, int(value / top * 7.999))] for value in shown)


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _total(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(_number(row, name) for row in rows)


def _cell(value: Any, kind: str) -> str:
    if kind == "seconds":
        return duration(float(value or 0))
    if kind == "bytes":
        return size(float(value or 0))
    if kind == "percent":
        return f"{float(value or 0):.0f}%"
    if kind == "float":
        return f"{float(value or 0):.1f}" if (value or 0) < 100 else f"{value:.0f}"
    text = "".join(ch if ch.isprintable() else "?" for ch in str("-" if value is None else value))
    return text if len(text) <= 48 else text[:47] + "…"


def _join(values: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    return "  ".join(
        value.ljust(width) if column.type == "str" else value.rjust(width)
        for value, width, column in zip(values, widths, columns, strict=True)
    )


def _style(row: Mapping[str, Any]) -> str:
    state = str(row.get("state", ""))
    if state.startswith(("stuck", "stopped", "dead")):
        return "bad"
    return "warn" if state.startswith(("draining", "starting", "suspended", "exiting")) else ""


def _natural(text: str) -> tuple[Any, ...]:
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text.split(".")
    )
