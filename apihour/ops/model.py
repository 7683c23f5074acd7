"""What is known of a command wherever it runs: its words, its columns, its role.

A :class:`Command` is data: it travels as a record, so the console knows an application's
commands without importing the application. It is read off a function (:mod:`apihour.ops.derive`)
and kept in a catalogue (:mod:`apihour.ops.catalogue`). Calls of commands (words in, rows out,
exit statuses) are ``apihour_console.calls.call``.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import textwrap
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apihour.errors import ApihourError, ConfigurationError
from apihour.ops.annotations import COLUMN_TYPES, PARAMETER_TYPES

__all__ = [
    "GLOBAL_OPTIONS",
    "Collects",
    "Column",
    "Command",
    "CommandFailed",
    "Parameter",
    "Role",
    "Scope",
    "validate",
]

ActsOn = Literal["", "workers", "daemon"]
Collects = Literal["agent", "loop", "arbiter", "console"]
Scope = Literal["all", "one", "first"]
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
GLOBAL_OPTIONS: Mapping[str, str] = {
    "json": "an array of objects (one object per line when streaming)",
    "csv": "comma separated values with a header line",
    "worker": "ask worker N (slot, or slot.generation; several by commas) or all",
    "host": "ask those hosts of the fleet: names (* and ? are wildcards), or all",
    "sort": "order by column COL, or -COL for descending",
    "limit": "at most N rows",
    "filter": "COLUMN=VALUE (* and ? are wildcards), !=, <, <=, >, >=, COLUMN~PART, or ~PART "
              "anywhere; repeatable",
    "help": "what the command does",
}
"""The options every command has, with their help."""
_NOT_HEEDED: Mapping[str, Sequence[str]] = {
    "": (), "workers": ("limit", "filter"), "daemon": ("limit", "filter", "worker")}
_PLACES = {"duration": "TIME", "int": "N", "float": "N"}
_VALUES = {"worker": "N|all", "host": "NAME|all", "sort": "[-]COL", "limit": "N", "filter": "COND"}
_COMMON = {name: f"--{name} {_VALUES[name]}" if name in _VALUES else f"--{name}"
           for name in GLOBAL_OPTIONS}


class CommandFailed(ApihourError):
    """A command could not do what was asked; `kind` and `detail` are those of the wire.

    Kind ``gone``: what it was about is no longer there; ``lost``: it may have been done.
    """

    def __init__(self, message: str, kind: str = "failed", detail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail


class Role(enum.IntEnum):
    """What a key may do; each role includes those below it."""

    OBSERVER = 1
    OPERATOR = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Role:
        """The role of that name. Raises ValueError naming the roles there are."""
        try:
            return cls[text.upper()]
        except KeyError:
            names = ", ".join(str(role) for role in cls)
            raise ValueError(f"role {text!r}: expected one of {names}") from None


@dataclass(frozen=True)
class Parameter:
    """One word or option of a command. `name` is the function's, `option` what is typed.

    One that `acts` has the command change something where else it only looks.
    """

    name: str
    type: str = "str"
    default: Any = None
    required: bool = False
    positional: bool = False
    variadic: bool = False
    help: str = ""
    choices: tuple[str, ...] = ()
    short: str = ""
    acts: bool = False

    @property
    def option(self) -> str:
        """As typed: ``for_`` is ``--for``, ``dry_run`` is ``--dry-run``."""
        return self.name.rstrip("_").replace("_", "-")

    @property
    def told(self) -> str:
        """Its help, with the default where that says something."""
        if self.default in (None, "", False) or self.type == "choice":
            return self.help
        value = _time(self.default) if self.type == "duration" else self.default
        return f"{self.help} [{value}]"

    @property
    def usage(self) -> str:
        """Its part of the usage line."""
        if self.positional:
            word = self.option.upper() + ("..." if self.variadic else "")
            if self.choices:
                word = "|".join(self.choices)
            return word if self.required else f"[{word}]"
        flag = f"-{self.short}|--{self.option}" if self.short else f"--{self.option}"
        if self.type == "bool":
            return f"[{flag}]"
        value = "|".join(self.choices) or _PLACES.get(self.type, "VALUE")
        return f"{flag} {value}" if self.required else f"[{flag} {value}]"


def _time(seconds: float) -> str:
    """As it may be typed: ``10ms``, ``2s``, ``10m``."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds / 60:g}m" if seconds >= 60 else f"{seconds:g}s"


@dataclass(frozen=True)
class Column:
    """One column of a command's rows; `type` says the unit too: ``seconds``, ``bytes``..."""

    name: str
    type: str = "any"


@dataclass(frozen=True)
class Command:
    """What is known of a command wherever it runs.

    `deadline` is in seconds, per worker, and leaves room to answer within two; the value of
    the parameter named `extends`, if any, comes on top (``profile -s 10``). `scope` says
    which workers of those chosen run it: all of them, any one, or all with only the first
    answer taken. A `hidden` command is for other commands to call.

    With its option ``--by`` the rows are counted in groups: of the column they are grouped
    by, then the columns `grouped`. `selects` names the command whose rows ``--filter``
    chooses from, and ``--sort`` and ``--limit``: that of ``kick`` is ``conns``.

    One that `acts` changes something, in all ``workers`` it is for or in the ``daemon``. Its rows
    tell what was done, so there is nothing to choose among them.
    """

    name: str
    summary: str
    description: str = ""
    role: Role = Role.OBSERVER
    collects: Collects = "agent"
    scope: Scope = "all"
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] = ()
    deadline: float = 1.8
    extends: str = ""
    streams: bool = False
    application: bool = False
    hidden: bool = False
    grouped: tuple[Column, ...] = ()
    selects: str = ""
    acts: ActsOn = ""

    def groups_by(self, arguments: Mapping[str, Any]) -> str:
        """The column a call with these arguments groups its rows by; empty: none."""
        return str(arguments.get("by") or "") if self.grouped else ""

    def columns_for(self, arguments: Mapping[str, Any]) -> tuple[Column, ...]:
        """The columns of what a call with these arguments gives."""
        by = self.groups_by(arguments)
        return (Column(by, "str"), *self.grouped) if by else self.columns

    def acts_with(self, arguments: Mapping[str, Any]) -> ActsOn:
        """What such a call changes something in; empty: it only looks."""
        told = any(one.acts and arguments.get(one.name) not in (None, False)
                   for one in self.parameters)
        return self.acts or ("workers" if told else "")

    def common_for(self, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        """The options of every command (GLOBAL_OPTIONS) that such a call heeds."""
        left_out = _NOT_HEEDED[self.acts_with(arguments)]
        return tuple(name for name in GLOBAL_OPTIONS if name not in left_out)

    @property
    def usage(self) -> str:
        """One line: ``stack [WORKER] [--frames VALUE]``."""
        return " ".join([self.name, *(parameter.usage for parameter in self.parameters)])

    @property
    def full_usage(self) -> str:
        """The same with the options that every command has."""
        return " ".join([self.usage, *(
            f"[{_COMMON[name]}]" for name in self.common_for({}) if name != "help"
        )])

    @property
    def help_text(self) -> str:
        """Everything ``help NAME`` prints."""
        parts = [f"usage: {self.full_usage}", "", self.summary]
        if self.description:
            parts += ["", self.description]
        rows = [(p.usage.strip("[]"), p.told) for p in self.parameters if p.help]
        common = [(_COMMON[name], GLOBAL_OPTIONS[name]) for name in self.common_for({})]
        for title, pairs in (("", rows), ("options of every command:", common)):
            width = max((len(left) for left, _ in pairs), default=0)
            lines = [f"  {left:<{width}}  {right}" for left, right in pairs]
            parts += ["", *[title] * bool(title), *lines] if lines else []
        if self.columns:
            names = " ".join(column.name for column in self.columns)
            parts += ["", *textwrap.wrap(f"columns: {names}", 78, subsequent_indent="  ")]
        if self.grouped:
            names = " ".join(column.name for column in self.grouped)
            parts += textwrap.wrap(f"with --by: {names}", 78, subsequent_indent="  ")
        if self.selects:
            parts += ["", f"--filter, --sort and --limit choose among the rows of {self.selects}"]
        parts += ["", f"role: {self.role}"]
        return "\n".join(parts)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        return next((found for found in self.parameters if found.name == name), None)

    def time_allowed(self, arguments: Mapping[str, Any]) -> float:
        """Seconds one worker has to answer a call with these arguments."""
        return self.deadline + float(arguments.get(self.extends) or 0.0)

    def to_record(self) -> dict[str, Any]:
        """JSON-able form, for the wire."""
        return {**dataclasses.asdict(self), "role": str(self.role)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Command:
        """Read what :meth:`to_record` wrote. Raises ConfigurationError when it is no command."""
        try:
            fields = dict(record)
            fields["role"] = Role.parse(fields["role"])
            fields["parameters"] = tuple(
                Parameter(**{**given, "choices": tuple(given.get("choices", ()))})
                for given in fields.get("parameters", ())
            )
            for key in ("columns", "grouped"):
                fields[key] = tuple(Column(**given) for given in fields.get(key, ()))
            found = cls(**fields)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ConfigurationError(f"command record {record!r:.200}: {error}") from error
        validate(found)
        return found


def validate(command: Command) -> None:
    """Raise ConfigurationError naming the part of `command` that is wrong."""

    def refuse(problem: str) -> typing.NoReturn:
        raise ConfigurationError(f"command {command.name!r:.60}: {problem}")

    if not _NAME.fullmatch(command.name):
        refuse("expected a name of a-z, 0-9, - and _, 40 characters at most")
    if command.collects not in typing.get_args(Collects):
        refuse(f"collects {command.collects!r}; expected agent, loop, arbiter or console")
    if command.acts not in typing.get_args(ActsOn):
        refuse(f"acts {command.acts!r}; expected workers, daemon or nothing")
    if command.scope not in typing.get_args(Scope):
        refuse(f"scope {command.scope!r}; expected all, one or first")
    seen: set[str] = set()
    for one in command.parameters:
        if one.type not in PARAMETER_TYPES:
            refuse(f"parameter {one.name!r:.60}: type {one.type!r:.60} is not known")
        if not one.positional and one.option in GLOBAL_OPTIONS:
            refuse(f"option --{one.option} is one that every command has; choose another name")
        if one.option in seen:
            refuse(f"parameter {one.option!r} twice")
        seen.add(one.option)
    if any(column.type not in COLUMN_TYPES for column in command.columns):
        refuse(f"a column is not of {', '.join(sorted(COLUMN_TYPES))}")
