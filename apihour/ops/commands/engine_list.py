"""The command about what a worker holds for its requests: ``engines``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from apihour.ops.annotations import Seconds
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.resources import Engine

commands = Catalogue()


@dataclass(frozen=True)
class EngineRow:
    """One engine of one worker; `max` is that of all workers, `slowest` of the last minutes."""

    worker: str
    engine: str
    kind: str
    state: str
    size: int
    busy: int
    waiting: int
    max: int
    errors: int
    slowest: Seconds
    slowest_query: str
    address: str


@commands.command()
def engines(context: AgentContext) -> Iterator[EngineRow | float]:
    """Engines: their connections, who waits for one, and the slowest query lately"""
    container = context.worker.container
    for name, engine in list(getattr(container, "engines", {}).items()):
        if not isinstance(engine, Engine):
            continue  # the application's own: it says nothing
        told = engine.statistics()
        yield EngineRow(
            context.worker.name, str(name), engine.kind, "up" if engine.up else "down",
            told.get("size", 0), told.get("busy", 0), told.get("waiting", 0), told.get("max", 0),
            told.get("errors", 0), round(told.get("slowest", 0.0), 4),
            told.get("slowest_query", ""), told.get("address", ""))
