"""Commands whose rows read better as text than as a table; JSON and CSV stay rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from apihour_console.text.render import clean, duration, paint

__all__ = ["presented"]

_KEYS = ("host", "worker", "thread", "state", "blocked")


def presented(command: str, rows: Iterable[Mapping[str, Any]], colour: bool) -> str | None:
    """The text for the rows of that command; None when a table serves."""
    present = _TEXTS.get(command)
    return present(rows, colour) if present is not None else None


def _stacks(rows: Iterable[Mapping[str, Any]], colour: bool) -> str:
    """Stacks as Python prints tracebacks, the innermost frame first."""
    lines: list[str] = []
    before: tuple[Any, ...] | None = None
    for row in rows:
        key = tuple(row.get(name) for name in _KEYS)
        if key != before:
            if before is not None:
                lines.append("")
            lines.append(_stack_title(row, colour))
            before = key
        where = f"{row.get('file')}:{row.get('line')}"
        lines.append(f"  {_one(where)}  {_one(row.get('function'))}")
        text = _one(row.get("text"))
        if text:
            lines.append(f"      {paint(text, 'bold') if colour else text}")
    return "\n".join(lines) + "\n" if lines else ""


def _stack_title(row: Mapping[str, Any], colour: bool) -> str:
    blocked = float(row.get("blocked") or 0.0)
    state = _one(row.get("state"))
    host = f"host {_one(row['host'])}, " if "host" in row else ""
    title = f"{host}worker {_one(row.get('worker'))}, {_one(row.get('thread'))}: {state}"
    if blocked >= 0.1:
        title += f" for {duration(blocked)}"
    return paint(title, "red" if state.startswith("blocked") else "cyan") if colour else title


def _one(value: Any) -> str:
    return clean("" if value is None else str(value)).replace("\n", " ")


_TEXTS: Mapping[str, Callable[[Iterable[Mapping[str, Any]], bool], str]] = {"stack": _stacks}
