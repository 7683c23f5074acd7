"""Commands about the process a worker is: logging, configuration, environment, memory."""

from __future__ import annotations

import gc as collector
import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from apihour.masking import MASK, is_secret, mask_text, mask_url
from apihour.ops.annotations import Acts, Bytes, Duration, LoggerName, Short, Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.model import CommandFailed, Role
from apihour.ops.rows import stamp

if TYPE_CHECKING:
    from tracemalloc import Snapshot

commands = Catalogue()

Level = Literal["debug", "info", "warning", "error", "critical", "notset"]

_VALUE = 500  # characters of one value that are shown
_PLACES = {"bind", "console", "health"}  # settings whose values name places
_TRACES = 2000  # traces of tracemalloc that are added up between two looks at the clock


@dataclass(frozen=True)
class LoggerRow:
    """One logger; `level` is what applies, inherited or its own."""

    worker: str
    logger: str
    level: str
    own: bool


@dataclass(frozen=True)
class LogRow:
    """One log record."""

    worker: str
    time: str
    level: str
    logger: str
    message: str


@dataclass(frozen=True)
class SettingRow:
    """One setting of the daemon or of the application."""

    worker: str
    section: str
    name: str
    value: Any
    default: Any


@dataclass(frozen=True)
class VariableRow:
    """One variable of the environment."""

    worker: str
    name: str
    value: str


@dataclass(frozen=True)
class GenerationRow:
    """One generation of the garbage collector."""

    worker: str
    generation: int
    count: int
    threshold: int
    collections: int
    collected: int
    uncollectable: int


@dataclass(frozen=True)
class MemoryRow:
    """Memory allocated at one line and still held; `change` is since ``mem --start``."""

    worker: str
    where: str
    size: Bytes
    count: int
    change: Bytes


@commands.command()
def log(
    context: AgentContext, logger: LoggerName | None = None,
    level: Annotated[Level | None, Acts()] = None,
    *, for_: Annotated[Duration | None, "set it back after this time"] = None,
) -> list[LoggerRow]:
    """Show the level of loggers, or set that of one.

    Workers that start later have the configured level. Setting needs role operator.

    Args:
        logger: its name; "root" for the root logger
        level: debug, info, warning, error, critical, or notset to inherit
    """
    if logger is None:
        names = sorted(name for name, one in logging.root.manager.loggerDict.items()
                       if isinstance(one, logging.Logger))
        return [_logger_row(context, name) for name in ["root", *names]]
    if level is not None:
        if context.role < Role.OPERATOR:
            raise CommandFailed("log: setting a level needs role operator", "role")
        _set_level(context, logger, level, for_)
    elif logger != "root" and not isinstance(
        logging.root.manager.loggerDict.get(logger), logging.Logger
    ):  # asking for it would make it, for good
        raise CommandFailed(f"logger {logger!r:.80}: there is none; log lists those there are")
    return [_logger_row(context, logger)]


def _logger_row(context: AgentContext, name: str) -> LoggerRow:
    one = logging.getLogger(None if name == "root" else name)
    level = logging.getLevelName(one.getEffectiveLevel()).lower()
    return LoggerRow(context.worker.name, name, level, one.level != logging.NOTSET)


def _set_level(context: AgentContext, name: str, level: str, seconds: float | None) -> None:
    one = logging.getLogger(None if name == "root" else name)
    before = one.level
    chosen = logging.getLevelNamesMapping()[level.upper()]
    one.setLevel(chosen)
    if seconds is not None:

        def restore() -> None:
            if one.level == chosen:  # unless somebody has set it since
                one.setLevel(before)

        context.agent.later(seconds, restore)


@commands.command(streams=True)
def logs(
    context: AgentContext, *, follow: Annotated[bool, Short("f"), "go on as they come"] = False,
    lines: Annotated[int, Short("n"), "of the past, per worker; --filter chooses among these"] = 50,
    level: Annotated[Level, "this level and above"] = "notset",
    logger: Annotated[LoggerName | None, "this logger and those below it"] = None,
) -> Iterator[LogRow | float]:
    """The latest log records of every worker"""
    least = logging.getLevelNamesMapping()[level.upper()]
    number = 0
    rest = context.ring.latest(0, least, logger or "")[-lines:] if lines > 0 else []
    latest = context.ring.records[-1].number if context.ring.records else 0
    while True:
        for one in rest:
            yield LogRow(
                context.worker.name, stamp(one.time), logging.getLevelName(one.level).lower(),
                one.logger, one.message,
            )
        if not follow:
            return
        number, latest = max(number, latest, *(one.number for one in rest[-1:])), 0
        yield 0.2
        rest = context.ring.latest(number, least, logger or "")


@commands.command(scope="one")
def config(
    context: AgentContext, worker: Worker | None = None,
    *, diff: Annotated[bool, "only what differs from the defaults"] = False,
) -> Iterator[SettingRow | float]:
    """Settings of the daemon and of the application; secrets are masked"""
    name = context.worker.name
    for key, setting in sorted(getattr(context.worker.cfg, "settings", {}).items()):
        value, default = setting.get(), setting.default
        if not diff or value != default:
            yield SettingRow(name, "daemon", key, shown(key, value), shown(key, default))
    own = getattr(context.worker.container, "config", None)
    for key, value in flatten(own if isinstance(own, Mapping) else {}):
        yield SettingRow(name, "application", key, shown(key, value), None)


@commands.command(scope="one")
def env(context: AgentContext, worker: Worker | None = None) -> list[VariableRow]:
    """Environment of a worker; secrets are masked"""
    return [
        VariableRow(context.worker.name, key, str(shown(key, value)))
        for key, value in sorted(os.environ.items())
    ]


def flatten(value: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def shown(name: str, value: Any) -> Any:
    """A setting's value fit to be shown: plain, bounded, secrets masked."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if is_secret(name) and value not in ("", [], {}):
        return MASK
    text = str(value)
    if isinstance(value, Callable):  # type: ignore[arg-type]
        text = getattr(value, "__qualname__", text)
    # ``auth=127.0.0.1:8000`` names a bind, and is no secret's value.
    return (mask_url if name in _PLACES else mask_text)(text)[:_VALUE]


@commands.command(role="operator")
def gc(
    context: AgentContext, worker: Worker | None = None,
    *, collect: Annotated[bool, Acts(), "collect now; the worker stops meanwhile"] = False,
) -> list[GenerationRow]:
    """Garbage collector of the workers"""
    if collect:
        collector.collect()
    counts, thresholds = collector.get_count(), collector.get_threshold()
    return [
        GenerationRow(context.worker.name, number, counts[number], thresholds[number],
                      one["collections"], one["collected"], one["uncollectable"])
        for number, one in enumerate(collector.get_stats())
    ]


@commands.command(role="operator", deadline=30.0)
def mem(
    context: AgentContext, worker: Worker | None = None,
    *, start: Annotated[bool, Acts(), "begin to trace; the worker is slower by half"] = False,
    stop: Annotated[bool, Acts(), "end it"] = False,
    top: Annotated[int, "lines that hold the most"] = 20,
    diff: Annotated[bool, "those that grew the most since --start"] = False,
) -> Iterator[MemoryRow | float]:
    """Lines that hold memory, by tracemalloc: mem --start, later mem --diff, at last mem --stop"""
    import tracemalloc  # here: it brings a megabyte that only those who look should pay

    agent = context.agent
    if stop:
        tracemalloc.stop()
        agent.memory = {}
        return
    if start and not tracemalloc.is_tracing():
        tracemalloc.start()
        agent.memory = {}
    if not tracemalloc.is_tracing():
        raise CommandFailed("mem: allocations are not traced yet; begin with mem --start")
    totals = yield from _totals(tracemalloc.take_snapshot())
    if start:
        agent.memory = {where: size for where, (size, _) in totals.items()}
    before = agent.memory
    rows = [
        MemoryRow(context.worker.name, f"{where[0]}:{where[1]}", size, count,
                  size - before.get(where, 0))
        for where, (size, count) in totals.items()
    ]
    rows.sort(key=lambda row: row.change if diff else row.size, reverse=True)
    yield from rows[: max(0, top)]


def _totals(
    snapshot: Snapshot,
) -> Generator[float, None, dict[tuple[str, int], tuple[int, int]]]:
    """Sizes and counts by line. Taking the snapshot is one stretch; adding up is not."""
    totals: dict[tuple[str, int], tuple[int, int]] = {}
    for number, trace in enumerate(snapshot.traces):
        frame = trace.traceback[0]
        size, count = totals.get((frame.filename, frame.lineno), (0, 0))
        totals[frame.filename, frame.lineno] = (size + trace.size, count + 1)
        if number % _TRACES == 0:
            yield 0.001
    return totals
