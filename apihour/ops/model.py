"""The operations catalogue: one typed function per command, everything else derived from it.

Rules:

- The function's first parameter is its context (agent, console, container). Its other
  positional parameters are the words after the command, its keyword-only ones are
  ``--options``; annotations give types and choices, the docstring gives the help.
- The return annotation gives the columns: ``list[Row]`` or ``Iterator[Row | float]`` with
  a dataclass ``Row`` (a float yielded in the agent is a pause in seconds); an
  ``AsyncIterator[Row]`` is a command that streams.
- Registration validates fully, then stores. A name is taken once.
- A :class:`Command` is data: it travels as a record, so the console knows an application's
  commands without importing the application.

Calls of commands (words in, rows out, exit statuses) are ``apihour_console.shell.calls``.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import textwrap
import time
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from apihour.errors import ApihourError, ConfigurationError

__all__ = [
    "GLOBAL_OPTIONS",
    "Address",
    "Bytes",
    "Catalogue",
    "Collects",
    "Column",
    "Command",
    "CommandFailed",
    "CommandName",
    "ConnectionId",
    "Duration",
    "Kind",
    "LoggerName",
    "Parameter",
    "Percent",
    "Role",
    "Scope",
    "Seconds",
    "ServerName",
    "Short",
    "Stack",
    "TaskId",
    "Worker",
    "command",
    "stamp",
    "to_rows",
]

Collects = Literal["agent", "loop", "arbiter", "console"]
Scope = Literal["all", "one", "first"]
F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_MARK = "__apihour_command__"

GLOBAL_OPTIONS: Mapping[str, str] = {
    "json": "an array of objects (one object per line when streaming)",
    "csv": "comma separated values with a header line",
    "worker": "ask worker N (slot, or slot.generation; several by commas) or all",
    "sort": "order by column COL, or -COL for descending",
    "limit": "at most N rows",
    "filter": "COLUMN=VALUE (* and ? are wildcards), !=, <, <=, >, >=, COLUMN~PART, or ~PART "
              "anywhere; repeatable",
    "help": "what the command does",
}
"""The options every command has, with their help."""
_VALUES = {"worker": "N|all", "sort": "[-]COL", "limit": "N", "filter": "COND"}
_COMMON = {name: f"--{name} {_VALUES[name]}" if name in _VALUES else f"--{name}"
           for name in GLOBAL_OPTIONS}


class CommandFailed(ApihourError):
    """A command could not do what was asked; `kind` and `detail` are those of the wire.

    Kind ``gone``: what it was about is no longer there.
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
class Kind:
    """Annotation: what a parameter names, or the unit of a column."""

    name: str


@dataclass(frozen=True)
class Short:
    """Annotation: the one-letter form of an option, without its dash."""

    letter: str


Worker = Annotated[str, Kind("worker")]
ConnectionId = Annotated[str, Kind("connection")]
LoggerName = Annotated[str, Kind("logger")]
ServerName = Annotated[str, Kind("server")]
TaskId = Annotated[str, Kind("task")]
CommandName = Annotated[str, Kind("command")]
Secret = Annotated[str, Kind("secret")]
"""A parameter that nobody else shall read: masked in the audit log and in ``sessions``."""
Duration = Annotated[float, Kind("duration")]
"""A parameter in seconds, written ``90``, ``500ms``, ``10m``, ``2h``."""
Seconds = Annotated[float, Kind("seconds")]
Bytes = Annotated[int, Kind("bytes")]
Percent = Annotated[float, Kind("percent")]
Stack = Annotated[str, Kind("stack")]
"""Lines ``FILE:LINE FUNCTION``, innermost first; a table shows the application's own."""
Address = Annotated[str, Kind("address")]
"""A column of peers: a filter may leave the port away, or name a network."""

COLUMN_TYPES = frozenset(
    ("str", "int", "float", "bool", "seconds", "bytes", "percent", "address", "any")
)
PARAMETER_TYPES = frozenset(
    ("str", "int", "float", "bool", "choice", "worker", "connection", "logger", "server", "task",
     "command", "duration", "secret")
)


@dataclass(frozen=True)
class Parameter:
    """One word or option of a command. `name` is the function's, `option` what is typed."""

    name: str
    type: str = "str"
    default: Any = None
    required: bool = False
    positional: bool = False
    variadic: bool = False
    help: str = ""
    choices: tuple[str, ...] = ()
    short: str = ""

    @property
    def option(self) -> str:
        """As typed: ``for_`` is ``--for``, ``dry_run`` is ``--dry-run``."""
        return self.name.rstrip("_").replace("_", "-")

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
        value = "|".join(self.choices) or ("TIME" if self.type == "duration" else "VALUE")
        return f"{flag} {value}" if self.required else f"[{flag} {value}]"


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
    chooses from: that of ``kick`` is ``conns``.
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

    def groups_by(self, arguments: Mapping[str, Any]) -> str:
        """The column a call with these arguments groups its rows by; empty: none."""
        return str(arguments.get("by") or "") if self.grouped else ""

    def columns_for(self, arguments: Mapping[str, Any]) -> tuple[Column, ...]:
        """The columns of what a call with these arguments gives."""
        by = self.groups_by(arguments)
        return (Column(by, "str"), *self.grouped) if by else self.columns

    @property
    def usage(self) -> str:
        """One line: ``stack [WORKER] [--frames VALUE]``."""
        return " ".join([self.name, *(parameter.usage for parameter in self.parameters)])

    @property
    def full_usage(self) -> str:
        """The same with the options that every command has."""
        return " ".join([self.usage, *(
            f"[{option}]" for name, option in _COMMON.items() if name != "help"
        )])

    @property
    def help_text(self) -> str:
        """Everything ``help NAME`` prints."""
        parts = [f"usage: {self.full_usage}", "", self.summary]
        if self.description:
            parts += ["", self.description]
        rows = [(p.usage.strip("[]"), p.help) for p in self.parameters if p.help]
        common = [(_COMMON[name], about) for name, about in GLOBAL_OPTIONS.items()]
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
            parts += ["", f"--filter chooses among the rows of {self.selects}"]
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


@dataclass(frozen=True)
class Entry:
    """A command and what carries it out; no function: it is carried out elsewhere."""

    command: Command
    function: Callable[..., Any] | None = None


class Catalogue:
    """Commands by name."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def command(self, name: str = "", **declared: Any) -> Callable[[F], F]:
        """Decorator: register the function as a command.

        `declared` are fields of :class:`Command` (``role`` also by name, ``grouped`` as a
        dataclass, ``collects``, ``scope``, ``deadline``, ``extends``...). Raises
        ConfigurationError when the function cannot be a command.
        """

        def register(function: F) -> F:
            self.add(derive(function, name, **declared), function)
            return function

        return register

    def add(self, command: Command, function: Callable[..., Any] | None = None) -> None:
        """Add one command. Raises ConfigurationError when its name is taken."""
        validate(command)
        if command.name in self._entries:
            raise ConfigurationError(f"command {command.name!r}: the name is taken")
        self._entries[command.name] = Entry(command, function)

    def update(self, other: Catalogue, replace: bool = False) -> None:
        """Add all commands of another; none when a name is taken and may not be replaced."""
        taken = sorted(self._entries.keys() & other._entries.keys())
        if taken and not replace:
            raise ConfigurationError(f"commands {', '.join(taken)}: the names are taken")
        self._entries.update(other._entries)

    @classmethod
    def of(cls, owner: object) -> Catalogue:
        """The commands that the class of `owner` (a container) declares with :func:`command`."""
        catalogue = cls()
        for name in dir(type(owner)):
            declared = getattr(inspect.getattr_static(type(owner), name), _MARK, None)
            if declared is not None:
                method = getattr(owner, name)
                given = {"collects": "loop", "application": True, **declared}
                catalogue.add(derive(method, bound=True, **given), method)
        return catalogue

    def entry(self, name: str) -> Entry | None:
        """The entry of that name, or None."""
        return self._entries.get(name)

    def get(self, name: str) -> Command | None:
        """The command of that name, or None."""
        found = self._entries.get(name)
        return found.command if found else None

    def __iter__(self) -> Iterator[Command]:
        return iter([self._entries[name].command for name in sorted(self._entries)])

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)


def command(
    name: str = "", *, role: str | Role = Role.OPERATOR, scope: Scope = "one",
    deadline: float = 10.0,
) -> Callable[[F], F]:
    """Decorator for methods of a container: an application's own command of the shell.

    It runs in the worker's loop, on `scope`: any ``one`` worker, ``all``, or all with the
    ``first`` answer taken. `deadline`: seconds.
    """
    declared = {"name": name, "role": role, "scope": scope, "deadline": deadline}

    def mark(function: F) -> F:
        setattr(function, _MARK, declared)
        return function

    return mark


def derive(
    function: Callable[..., Any], name: str = "", *, bound: bool = False, **declared: Any
) -> Command:
    """Read a command off a function. Raises ConfigurationError naming what cannot be one."""
    name = name or function.__name__.rstrip("_").replace("_", "-")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(f"command {name!r}: annotation: {error}") from error
    given = list(inspect.signature(function).parameters.values())
    summary, description, helps = read_docstring(inspect.getdoc(function) or "")
    parameters = tuple(
        _parameter(name, one, hints.get(one.name, str), helps.get(one.name, ""))
        for one in (given if bound else given[1:])
    )
    columns, streams = _columns(hints.get("return"))
    if "grouped" in declared:
        declared["grouped"], _ = _columns(declared["grouped"])
    streams = declared.pop("streams", streams)
    if "role" in declared and not isinstance(declared["role"], Role):
        declared["role"] = Role.parse(declared["role"])
    found = Command(
        name, summary, description, parameters=parameters, columns=columns, streams=streams,
        **declared,
    )
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


def read_docstring(text: str) -> tuple[str, str, dict[str, str]]:
    """Split a docstring in its first line, its body, and ``name: help`` lines under ``Args:``."""
    lines = text.splitlines()
    summary = lines[0].strip().rstrip(".") if lines else ""
    body: list[str] = []
    helps: dict[str, str] = {}
    inside = False
    for line in lines[1:]:
        if line.strip() in ("Args:", "Arguments:"):
            inside = True
        elif inside and line.startswith(" ") and ":" in line:
            key, _, value = line.strip().partition(":")
            helps[key.strip("`")] = value.strip()
        else:
            inside = inside and not line.strip()
            body.append(line)
    return summary, "\n".join(body).strip(), helps


def stamp(seconds: float) -> str:
    """A time of day in a row: UTC, RFC 3339, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"


def to_rows(value: Any) -> list[dict[str, Any]]:
    """Rows from what a command function returned: dataclasses, mappings or plain values.

    Dataclasses are taken as they are, not copied to their depths: rows are flat, and many.
    """
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [row for one in value for row in to_rows(one)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [{name: getattr(value, name) for name in value.__dataclass_fields__}]
    return [dict(value) if isinstance(value, Mapping) else {"value": value}]


def _parameter(command: str, given: inspect.Parameter, hint: Any, help: str) -> Parameter:
    if given.kind is inspect.Parameter.VAR_KEYWORD:
        raise ConfigurationError(f"command {command!r}: **{given.name} cannot be typed in a shell")
    base, notes = _unwrap(hint)
    kind = next((note.name for note in notes if isinstance(note, Kind)), "")
    choices: tuple[str, ...] = ()
    if typing.get_origin(base) is Literal:
        kind, choices = "choice", tuple(str(value) for value in typing.get_args(base))
    elif not kind:
        kind = {str: "str", int: "int", float: "float", bool: "bool"}.get(base, "")
    if kind not in PARAMETER_TYPES:
        raise ConfigurationError(
            f"command {command!r}: parameter {given.name!r} has type {hint!r}; "
            "expected str, int, float, bool, a Literal or a type of apihour.ops"
        )
    variadic = given.kind is inspect.Parameter.VAR_POSITIONAL
    absent = given.default is inspect.Parameter.empty
    return Parameter(
        name=given.name, type=kind, choices=choices, variadic=variadic,
        default=None if absent else given.default, required=absent and not variadic,
        positional=given.kind is not inspect.Parameter.KEYWORD_ONLY,
        help=next((note for note in notes if isinstance(note, str)), help),
        short=next((note.letter for note in notes if isinstance(note, Short)), ""),
    )


def _columns(hint: Any) -> tuple[tuple[Column, ...], bool]:
    base, _ = _unwrap(hint)
    streams = typing.get_origin(base) is AsyncIterator
    if streams or typing.get_origin(base) in (list, Iterator):
        base = typing.get_args(base)[0]
    if typing.get_origin(base) in (typing.Union, types.UnionType):
        base = typing.get_args(base)[0]
    if not dataclasses.is_dataclass(base):
        return (), streams
    hints = typing.get_type_hints(base, include_extras=True)
    return tuple(_column(f.name, hints[f.name]) for f in dataclasses.fields(base)), streams


def _column(name: str, hint: Any) -> Column:
    base, notes = _unwrap(hint)
    plain = {str: "str", int: "int", float: "float", bool: "bool"}.get(base, "any")
    kind = next((note.name for note in notes if isinstance(note, Kind)), plain)
    return Column(name, kind if kind in COLUMN_TYPES else plain)


def _unwrap(hint: Any) -> tuple[Any, list[Any]]:
    """Take ``Annotated`` and ``| None`` off a type; return it and the notes found."""
    notes: list[Any] = []
    while True:
        origin = typing.get_origin(hint)
        if origin is Annotated:
            hint, *found = typing.get_args(hint)
            notes += found
        elif origin in (typing.Union, types.UnionType):
            kept = [one for one in typing.get_args(hint) if one is not type(None)]
            if len(kept) != 1:
                return hint, notes
            hint = kept[0]
        else:
            return hint, notes
