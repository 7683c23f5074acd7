"""Reading a command off a function: its words and options, its help, its columns.

Rules:

- The function's first parameter is its context (agent, console, container). Its other
  positional parameters are the words after the command, its keyword-only ones are
  ``--options``; annotations give types and choices, the docstring gives the help.
- The return annotation gives the columns: ``list[Row]`` or ``Iterator[Row | float]`` with
  a dataclass ``Row`` (a float yielded in the agent is a pause in seconds); an
  ``AsyncIterator[Row]`` is a command that streams.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

from apihour.errors import ConfigurationError
from apihour.ops.annotations import COLUMN_TYPES, PARAMETER_TYPES, Acts, Kind, Short
from apihour.ops.model import Column, Command, Parameter, Role, validate

__all__ = [
    "derive",
    "read_docstring",
]


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
        acts=any(isinstance(note, Acts) for note in notes),
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
