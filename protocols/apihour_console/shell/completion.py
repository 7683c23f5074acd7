"""What may come next on a command line: commands, options, choices and live values.

Rules:

- Everything derives from the catalogue; live values (workers, connections, loggers) are
  asked of the fleet only when one of that kind is being typed, and waited for briefly.
- What the caller's role does not allow is not offered.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from apihour.ops.catalogue import Catalogue
from apihour.ops.model import GLOBAL_OPTIONS, Column, Command, Parameter, Role

__all__ = ["Candidate", "CompleteFunction", "complete"]

_VALUED = ("worker", "host", "sort", "limit", "filter")  # global options followed by a value
_MAXIMUM = 200  # candidates; more help nobody

ValuesFunction = Callable[[str], Awaitable[Iterable[str]]]


@dataclass(frozen=True)
class Candidate:
    """A completion: `text` goes in place of the last `replaces` characters."""

    text: str
    replaces: int
    about: str = ""


CompleteFunction = Callable[[str], AsyncGenerator[Candidate, None]]
"""Gives what may stand next, for the text before the cursor."""


async def complete(
    line: str, catalogue: Catalogue, role: Role, values: ValuesFunction
) -> AsyncGenerator[Candidate, None]:
    """Yield what may continue `line` (the text before the cursor)."""
    words = _words(line)
    word = words.pop() if words and not line[-1:].isspace() else ""
    found = await _choices(words, word, catalogue, role, values)
    count = 0
    for text, about in found:
        if text.startswith(word):
            yield Candidate(text, len(word), about)
            count += 1
            if count >= _MAXIMUM:
                return


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quote that is still open
        return line.split()


async def _choices(
    words: list[str], word: str, catalogue: Catalogue, role: Role, values: ValuesFunction
) -> list[tuple[str, str]]:
    if not words:
        return [(one.name, one.summary) for one in catalogue if one.role <= role]
    command = catalogue.get(words[0])
    if command is None or command.role > role:
        return []
    position = _position(command, words[1:])
    if isinstance(position, list):  # a command inside a command: watch 2 conns
        return await _choices(position, word, catalogue, role, values)
    if word.startswith("@") and _is_of_a_worker(position):
        return [(f"@{name}:", "") for name in await values("host")]
    if isinstance(position, str):
        if position == "host":
            return [("all", "every host"), *((name, "") for name in await values("host"))]
        if position == "worker":
            return [("all", "every worker"), *((name, "") for name in await values("worker"))]
        if position == "sort":
            sign = "-" * word.startswith("-")
            about = "" if sign else "from the smallest; -COL from the largest"
            columns = _sortable(_selected(command, catalogue), words)
            return [(sign + column.name, about) for column in columns]
        if position == "filter":
            return [(f"{column.name}=", "") for column in _selected(command, catalogue).columns]
        return []
    if word.startswith("-") or position is None:
        return _options(command)
    return await _of_parameter(position, catalogue, role, values)


def _position(command: Command, words: list[str]) -> Parameter | str | list[str] | None:
    """What the next word is: a parameter, the value of a global option, or neither."""
    remaining = [one for one in command.parameters if one.positional]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word.startswith("-") and word != "-":
            name, _, value = word.lstrip("-").partition("=")
            option = next((p for p in command.parameters
                           if not p.positional and name in (p.option, p.short)), None)
            takes = (option is not None and option.type != "bool") or name in _VALUED
            if takes and not value:
                if position == len(words):
                    return option or name
                position += 1
        elif remaining:
            if word[:1].isalpha() and _may_be_left_out(remaining):
                remaining.pop(0)
            if remaining[0].variadic:
                return words[position - 1 :]
            remaining.pop(0)
    if _may_be_left_out(remaining):
        return remaining[1]
    return remaining[0] if remaining else None


def _is_of_a_worker(position: Parameter | str | None) -> bool:
    """Whether ``@HOST:`` may stand before what comes next."""
    kind = position.type if isinstance(position, Parameter) else position
    return kind in ("worker", "connection")


def _may_be_left_out(remaining: list[Parameter]) -> bool:
    """Whether a command inside the command may stand where its parameter could: watch conns."""
    return len(remaining) > 1 and not remaining[0].required and remaining[1].variadic


def _selected(command: Command, catalogue: Catalogue) -> Command:
    """The command whose rows this one chooses from: most often itself."""
    return (catalogue.get(command.selects) if command.selects else None) or command


def _sortable(command: Command, words: list[str]) -> tuple[Column, ...]:
    """The columns of what is typed so far: of the groups, after ``--by``."""
    typed = " ".join(words).replace("=", " ").split()
    by = dict(itertools.pairwise(typed)).get("--by", "")
    return command.columns_for({"by": by})


def _options(command: Command) -> list[tuple[str, str]]:
    own = [(f"--{p.option}", p.help) for p in command.parameters if not p.positional]
    return own + [(f"--{name}", GLOBAL_OPTIONS[name]) for name in command.common_for({})]


async def _of_parameter(
    one: Parameter, catalogue: Catalogue, role: Role, values: ValuesFunction
) -> list[tuple[str, str]]:
    if one.choices:
        return [(choice, "") for choice in one.choices]
    if one.type == "command" or one.variadic:
        return [(command.name, command.summary) for command in catalogue if command.role <= role]
    if one.type == "bool":
        return [("yes", ""), ("no", "")]
    if one.type in ("worker", "connection", "logger", "server", "task"):
        return [(value, "") for value in await values(one.type)]
    return []
