"""Commands about where a worker's time goes: a profile of its loop."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Annotated, Literal

from apihour.ops.annotations import Duration, Short
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.model import CommandFailed
from apihour.ops.stacks import fold, frames_of

commands = Catalogue()

_STACKS = 20_000  # different stacks one profile keeps; a service has some hundreds
_SHORTEST = 0.002  # seconds between two looks: more often than that they are what is seen
_LONGEST = 600.0  # seconds of one profile
IDLE = "(idle)"
UNSEEN = "(C code that has not come back)"


@dataclass(frozen=True)
class SampleRow:
    """How often a stack was met; root first, frames parted by semicolons."""

    worker: str
    stack: str
    samples: int


@commands.command(role="operator", extends="seconds")
def profile(
    context: AgentContext, what: Literal["cpu", "wall"] = "cpu",
    *, seconds: Annotated[Duration, Short("s"), "how long"] = 10.0,
    interval: Annotated[Duration, "between two looks"] = 0.01,
    flame: Annotated[bool, "a flame graph as SVG"] = False,
) -> Iterator[SampleRow | float]:
    """Where the loop spends its CPU time, or (wall) where it stands, waiting or not"""
    check_bounds(seconds, interval)
    yield from (_by_cpu if what == "cpu" else _by_wall)(context, seconds, interval)


def check_bounds(seconds: float, interval: float) -> None:
    """Raise CommandFailed for a profile that would not be what was asked for."""
    if interval < _SHORTEST:
        raise CommandFailed(f"--interval {interval:g}: expected {_SHORTEST:g} s or more", "usage")
    if not 0 < seconds <= _LONGEST:
        raise CommandFailed(f"--seconds {seconds:g}: expected up to {_LONGEST:g} s", "usage")


def _by_cpu(context: AgentContext, seconds: float, interval: float) -> Iterator[SampleRow | float]:
    sampler, name = context.worker.sampler, context.worker.name
    if not sampler.is_installed:
        raise CommandFailed(f"worker {name}: SIGPROF is the application's own, another "
                            "profiler's say; expected it unused (profile wall needs none)")
    begun = time.monotonic()
    samples = sampler.start(interval)
    try:
        while (left := begun + seconds - time.monotonic()) > 0:
            yield min(left, 1.0)
    finally:
        sampler.stop(samples)
    idle = time.monotonic() - begun - samples.used
    base = _base(context)
    named: dict[str, float] = {IDLE: idle, UNSEEN: samples.unseen}
    for stack, spent in samples.stacks.items():
        title = _named(stack, base)
        named[title] = named.get(title, 0.0) + spent
    for title, spent in named.items():
        if looks := round(spent / interval):
            yield SampleRow(name, title, looks)


def _by_wall(context: AgentContext, seconds: float, interval: float) -> Iterator[SampleRow | float]:
    watch = context.watch
    counts: Counter[tuple[CodeType, ...]] = Counter()
    idle = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        frame = watch.frame()
        if watch.idle(frame):
            idle += 1
        elif len(counts) < _STACKS:
            counts[fold(frame)] += 1
        del frame
        yield interval
    if idle:
        yield SampleRow(context.worker.name, IDLE, idle)
    base = _base(context)
    for stack, samples in counts.items():
        yield SampleRow(context.worker.name, _named(stack, base), samples)


def _base(context: AgentContext) -> set[CodeType]:
    return {one.f_code for one in frames_of(context.watch.base)}


def _named(stack: tuple[CodeType, ...], base: set[CodeType]) -> str:
    names = [
        f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"
        for code in stack if code not in base
    ]
    return ";".join(reversed(names)) or "(loop)"
