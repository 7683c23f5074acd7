"""From the words of one line to a checked call.

Rules:

- No I/O and no clock: everything here is a function over data.
- A wrong word gets one line that names the command, the word and what was expected.
- Nothing is done that was not asked for: an option that the command cannot heed is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from apihour.errors import UsageError
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import GLOBAL_OPTIONS, Column, Command, Parameter
from apihour_console.calls.call import Call, UnknownCommand
from apihour_console.calls.filters import TRUTH, UNITS, Filter, parse_filter, quantity

__all__ = ["parse_call"]

_WORKER = re.compile(r"all|\d+(\.\d+)?(,\d+(\.\d+)?)*")
_HOSTS = re.compile(r"[A-Za-z0-9*?,_-]{1,500}")
_AT_HOST = re.compile(r"(--worker=)?@[A-Za-z0-9*?,_-]+:?([\d.,-]*|all)")
_CONNECTION = re.compile(r"\d+\.\d+-\d+")
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
_SECONDS = UNITS["seconds"]
# What hands used to other shells type for commands there are.
_ELSEWHERE = {"quit": ("exit",), "logout": ("exit",), "kill": ("kick", "restart", "signal"),
              "ps": ("workers", "tasks"), "tail": ("logs",), "who": ("sessions",),
              "netstat": ("conns",), "ls": ("help",), "status": ("health", "workers")}


def parse_call(words: Sequence[str], catalogue: Catalogue) -> Call:
    """Read shell words. Raises UnknownCommand or UsageError, each one line for a person."""
    if not words:
        raise UsageError("expected a command; see help")
    name = words[0]
    command = catalogue.get(name)
    if command is None:
        raise UnknownCommand(
            f"{name!r:.80}: no such command"
            + (_hint(name, [one.name for one in catalogue], _ELSEWHERE.get(name, ()))
               or "; help lists them"))
    reader = _Reader(command, list(words[1:]), _filtered_columns(command, catalogue))
    reader.read()
    about = catalogue.get("help")
    if reader.common.get("help") and about is not None:
        return Call(about, {"command": name}, words=tuple(words))
    return reader.finish(tuple(words))


class _Reader:
    """Goes through the words of one call from left to right."""

    def __init__(
        self, command: Command, words: list[str], filtered: Sequence[Column]
    ) -> None:
        self.command = command
        self.words = words
        self.filtered = filtered
        self.arguments: dict[str, Any] = {}
        self.common: dict[str, Any] = {}
        self.filters: list[Filter] = []
        self.positional = [one for one in command.parameters if one.positional]

    def refuse(self, problem: str) -> UsageError:
        return UsageError(f"{self.command.name}: {problem}; usage: {self.command.full_usage}")

    def read(self) -> None:
        literal = False
        while self.words:
            word = self.words.pop(0)
            if not literal and word == "--":
                literal = True
            elif not literal and word.startswith("--"):
                self.long_option(word)
            elif not literal and self.is_short(word):
                self.short_option(word)
            else:
                self.word(word)

    def is_short(self, word: str) -> bool:
        return len(word) > 1 and word[0] == "-" and not _NUMBER.fullmatch(word)

    def word(self, word: str) -> None:
        if not self.positional:
            raise self.refuse(f"unexpected word {word!r:.80}")
        one = self.positional[0]
        if one.variadic and one.type == "command":  # it keeps its own options
            self.arguments[one.name] = [word, *self.words]
            self.words.clear()
            return
        if one.variadic:
            self.arguments.setdefault(one.name, []).append(
                self.convert(one, word, one.option.upper()))
            return
        self.positional.pop(0)
        if not one.required and self.is_variadic_next() and _convert(one, word)[1]:
            self.word(word)  # ``watch conns``: what was left out has its default
            return
        self.arguments[one.name] = self.convert(one, word, one.option.upper())

    def is_variadic_next(self) -> bool:
        return bool(self.positional) and self.positional[0].variadic

    def long_option(self, word: str) -> None:
        name, has_value, value = word[2:].partition("=")
        one = next(
            (p for p in self.command.parameters if not p.positional and p.option == name), None
        )
        if one is not None:
            self.own_option(one, f"--{name}", value if has_value else None)
        elif name in GLOBAL_OPTIONS:
            self.common_option(name, value if has_value else None)
        elif name.startswith("no-") and (flag := self.command.parameter(name[3:])):
            self.arguments[flag.name] = False
        else:
            known = [p.option for p in self.command.parameters if not p.positional]
            near = _hint(f"--{name}", [f"--{one}" for one in (*known, *GLOBAL_OPTIONS)])
            raise self.refuse(f"unknown option --{name:.80}{near}")

    def short_option(self, word: str) -> None:
        if word == "-h":
            self.common["help"] = True
            return
        one = next((p for p in self.command.parameters if p.short and p.short == word[1]), None)
        if one is None:
            raise self.refuse(f"unknown option {word!r:.80}")
        self.own_option(one, word[:2], word[2:] or None)

    def own_option(self, one: Parameter, typed: str, value: str | None) -> None:
        if one.type == "bool" and value is None:
            self.arguments[one.name] = True
        else:
            self.arguments[one.name] = self.convert(one, self.value(typed, value), typed)

    def value(self, typed: str, value: str | None) -> str:
        if value is not None:
            return value
        if not self.words:
            raise self.refuse(f"option {typed}: expected a value after it")
        return self.words.pop(0)

    def common_option(self, name: str, value: str | None) -> None:
        if name in ("json", "csv", "help"):
            if value is not None:
                raise self.refuse(f"option --{name}: {value!r:.80}; expected no value")
            self.common[name] = True
            return
        text = self.value(f"--{name}", value)
        if name == "filter":
            self.filters.append(self.filter(text))
        elif name == "sort":
            self.common["sort"] = text
        elif name == "limit":
            self.common["limit"] = self.count(text)
        elif name == "host":
            self.choose_hosts(text)
        else:
            self.common["worker"] = self.convert(Parameter("worker", "worker"), text, "--worker")

    def choose_hosts(self, text: str) -> None:
        if not _HOSTS.fullmatch(text):
            raise self.refuse(f"option --host: {text!r:.80}; expected names of hosts, or all")
        if self.common.setdefault("host", text) != text:
            raise self.refuse(f"hosts {self.common['host']!r} and {text!r}; expected one of them")

    def count(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise self.refuse(f"option --limit: {text!r:.80}; expected a number, 0 or more")
        return int(text)

    def check_sort(self) -> None:
        """The column to sort by: of the rows chosen from, or of the groups of ``--by``."""
        name = self.common.get("sort", "").removeprefix("-")
        columns = self.filtered if self.command.selects else self.command.columns_for(
            self.arguments)
        known = [one.name for one in columns]
        if name and known and name not in known:
            raise self.refuse(
                f"option --sort: no column {name!r:.80}; expected one of {', '.join(known)}")

    def filter(self, text: str) -> Filter:
        try:
            return parse_filter(text, self.filtered)
        except UsageError as error:
            raise self.refuse(str(error)) from None

    def convert(self, one: Parameter, text: str, typed: str) -> Any:
        if text.startswith("@") and one.type in ("worker", "connection"):
            host, _, text = text[1:].partition(":")
            self.choose_hosts(host)
            text = text or "all"
        value, expected = _convert(one, text)
        if expected:
            near = _hint(text, one.choices) if one.choices else ""
            raise self.refuse(f"{typed}: {text!r:.80}; expected {expected}{near}")
        return value

    def finish(self, words: tuple[str, ...]) -> Call:
        for one in self.command.parameters:
            if one.name in self.arguments:
                continue
            if one.required:
                what = one.option.upper() if one.positional else f"option --{one.option}"
                raise self.refuse(f"{what} is missing")
            self.arguments[one.name] = [] if one.variadic else one.default
        self.check_sort()
        self.check_acts()
        call = Call(
            self.command, self.arguments, self.target(), json=self.common.get("json", False),
            csv=self.common.get("csv", False), sort=self.common.get("sort", ""),
            limit=self.common.get("limit"), filters=tuple(self.filters), words=words,
            hosts=self.common.get("host", ""), far_words=tuple(_without_hosts(words)),
        )
        if call.follows and call.sort and self.command.name != "watch":
            raise self.refuse("option --sort: rows come as they happen; expected none with -f")
        return call

    def target(self) -> str:
        """The workers that the call is for."""
        word: str | None = next(
            (self.arguments[p.name] for p in self.command.parameters
             if p.positional and p.type == "worker" and self.arguments[p.name]), None,
        )
        option: str | None = self.common.get("worker")
        if word and option and word != option:
            raise self.refuse(f"WORKER {word!r} and --worker {option!r}; expected one of them")
        return option or word or "all"

    def check_acts(self) -> None:
        """Refuse what would choose among the rows afterwards: more was done than is shown."""
        heeded = self.command.common_for(self.arguments)
        for name in [*self.common, *["filter"] * bool(self.filters)]:
            if name not in heeded and name == "worker":
                raise self.refuse("option --worker: it is for the whole daemon; expected none")
            if name not in heeded:
                instead = "--worker to choose" if "worker" in heeded else "none"
                raise self.refuse(f"option --{name}: rows tell of all that was done; "
                                  f"expected {instead}")


def _without_hosts(words: Sequence[str]) -> Iterator[str]:
    """The words as the hosts themselves are to read them."""
    left = iter(words)
    for word in left:
        if word == "--":
            yield word
            yield from left
        elif word == "--host":
            next(left, None)
        elif (found := _AT_HOST.fullmatch(word)) is not None:
            yield (found[1] or "") + (found[2] or "all")
        elif not word.startswith("--host="):
            yield word


def _filtered_columns(command: Command, catalogue: Catalogue) -> Sequence[Column]:
    """The columns of the rows that the filters of a command choose from."""
    chosen = catalogue.get(command.selects) if command.selects else None
    return command.columns if chosen is None else chosen.columns


def _convert(one: Parameter, text: str) -> tuple[Any, str]:
    """The value of a word, and what was expected instead when it has none."""
    if one.type == "choice":
        return text, "" if text in one.choices else "one of " + ", ".join(one.choices)
    if one.type == "worker":
        expected = "a worker: slot, slot.generation, or all"
        return text, "" if _WORKER.fullmatch(text) else expected
    if one.type == "connection":
        expected = "a connection's id such as 1.2-17"
        return text, "" if _CONNECTION.fullmatch(text) else expected
    if one.type == "duration":
        value = quantity(text, _SECONDS)
        bad = value is None or value < 0
        return value, "a time such as 10, 500ms, 10m or 2h" if bad else ""
    if one.type == "bool":
        return TRUTH.get(text.lower()), "" if text.lower() in TRUTH else "yes or no"
    if one.type in ("int", "float"):
        expected = "a whole number" if one.type == "int" else "a number"
        if not _NUMBER.fullmatch(text) or len(text) > 20:
            return None, expected
        try:
            return (int(text) if one.type == "int" else float(text)), ""
        except ValueError:
            return None, expected
    return text, ""


def _hint(word: str, known: Sequence[str], meant: Iterable[str] = ()) -> str:
    near = [one for one in meant if one in known]
    near = near or difflib.get_close_matches(word, known, n=2, cutoff=0.65)
    return f"; did you mean {' or '.join(near)}?" if near else ""
