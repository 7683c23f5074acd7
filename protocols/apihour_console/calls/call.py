"""Calls of the catalogue's commands: what was asked, by whom, and the rows asked for.

Rules:

- No I/O and no clock: everything here is a function over data.
- A limit never takes the latest away: of a stream that is over it leaves the last rows.
- Exit statuses: 0 done, 1 failed, 2 usage, 75 partial (some worker did not answer),
  126 the role does not allow it, 127 no such command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apihour.errors import ApihourError, UsageError
from apihour.ops.model import Column, Command, Role
from apihour_console.calls.filters import Filter, natural

__all__ = [
    "DONE",
    "FAILED",
    "FORBIDDEN",
    "PARTIAL",
    "UNKNOWN",
    "USAGE",
    "Call",
    "Filter",
    "Identity",
    "Missing",
    "Result",
    "RoleError",
    "UnknownCommand",
    "apply",
    "chosen",
    "in_time",
    "latest",
    "selected",
]

DONE, FAILED, USAGE, PARTIAL, FORBIDDEN, UNKNOWN = 0, 1, 2, 75, 126, 127


class UnknownCommand(UsageError):
    """No command of that name."""

    exit_status = UNKNOWN


class RoleError(ApihourError):
    """The caller's role does not allow the command."""

    exit_status = FORBIDDEN


@dataclass(frozen=True)
class Identity:
    """Who calls: a key or a local user, where from, and what they may do.

    `certificate`: key id and serial of the one they came with; `fingerprint` is then that of
    the authority that signed it.
    """

    name: str
    fingerprint: str = ""
    role: Role = Role.OBSERVER
    address: str = ""
    certificate: str = ""

    def check(self, command: Command) -> None:
        """Raise RoleError unless this role may run `command`."""
        if self.role < command.role:
            raise RoleError(
                f"{command.name}: needs role {command.role}; {self.name} has role {self.role}"
            )


@dataclass(frozen=True)
class Call:
    """One command with its arguments, checked, and what to do with the rows."""

    command: Command
    arguments: Mapping[str, Any] = field(default_factory=dict)
    worker: str = "all"
    json: bool = False
    csv: bool = False
    sort: str = ""
    limit: int | None = None
    filters: tuple[Filter, ...] = ()
    words: tuple[str, ...] = ()
    hosts: str = ""
    """The hosts of the fleet that it is for; empty: this daemon."""
    far_words: tuple[str, ...] = ()
    """The words for each of them."""

    @property
    def follows(self) -> bool:
        """Whether its rows come one by one with no end: ``logs -f``, not ``logs``."""
        if self.command.parameter("follow") is not None:
            return self.command.streams and bool(self.arguments.get("follow"))
        return self.command.streams

    @property
    def is_chosen(self) -> bool:
        """Whether its filters are about other rows than those it gives."""
        return bool(self.command.selects or self.command.groups_by(self.arguments))

    @property
    def only_looks(self) -> bool:
        """Whether it changes nothing and comes to an end, so that it may be repeated."""
        return not (self.command.streams or self.command.selects or self.may_act)

    @property
    def may_act(self) -> bool:
        """Whether it may change something: an application's command does, but an observer's."""
        command = self.command
        return bool(command.acts_with(self.arguments)) or (
            command.application and command.role > Role.OBSERVER)

    @property
    def time_allowed(self) -> float:
        """Seconds a worker has to answer."""
        return self.command.time_allowed(self.arguments)


@dataclass(frozen=True)
class Missing:
    """A worker that did not answer, or what else `what` says, and why."""

    worker: str
    reason: str
    what: str = "worker"


@dataclass(frozen=True)
class Result:
    """What a command gave: rows under columns, or a text; who is missing; exit status.

    `error` is one line for a person when `status` is 1, `detail` a traceback if there is.
    `hints` are lines for a person who reads the table, on what to do next.
    """

    columns: tuple[Column, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    status: int = DONE
    text: str | None = None
    error: str | None = None
    detail: str = ""
    hints: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, call: Call, rows: list[dict[str, Any]], missing: Sequence[Missing] = ()) -> Result:
        """The result of a call from the rows collected: filtered, sorted, cut."""
        _check_columns(call, rows)
        wanted = apply(call, rows)
        columns = call.command.columns_for(call.arguments) or tuple(
            Column(name) for name in dict.fromkeys(key for row in wanted for key in row)
        )
        return cls(columns, wanted, list(missing), PARTIAL if missing else DONE)


def _check_columns(call: Call, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a filter for a column that no row has, where none are declared."""
    if call.command.columns or not rows:
        return
    known = dict.fromkeys(key for row in rows for key in row)
    for one in call.filters:
        if one.column and one.column not in known:
            raise UsageError(f"{call.command.name}: option --filter: no column {one.column!r:.80}; "
                             f"expected one of {', '.join(known)}")


def chosen(call: Call, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the call's filters keep."""
    return [row for row in rows if all(one.matches(row) for one in call.filters)]


def latest(call: Call, rows: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The last `count` rows of those that the call's filters keep: of old ones too."""
    return chosen(call, rows)[-count:] if count > 0 else []


def in_time(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a stream, of several workers or hosts, in the order of their time."""
    return sorted(rows, key=lambda row: str(row.get("time") or ""))


def selected(call: Call, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a command like ``kick`` is about: filtered, in the call's order, cut."""
    return _cut(call, _ordered(call, chosen(call, rows)))


def apply(call: Call, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the call's filters keep, in its order, as many as its limit.

    Of what comes in the order of time these are the latest. Where the call chooses what a
    command is about it has done so (:func:`selected`), and where it counts, filters have.
    """
    if call.command.selects:
        return list(rows)
    return _cut(call, _ordered(call, list(rows) if call.is_chosen else chosen(call, rows)))


def _ordered(call: Call, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    name = call.sort.removeprefix("-")
    if not name:
        return rows
    return sorted(rows, key=lambda row: natural(row.get(name)), reverse=call.sort.startswith("-"))


def _cut(call: Call, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if call.limit is None:
        return rows
    if call.command.streams and not call.sort:
        return rows[max(0, len(rows) - call.limit):]
    return rows[:call.limit]
