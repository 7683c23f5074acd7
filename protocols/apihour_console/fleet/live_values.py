"""What a word of a command line may be now, for completion: asked of the workers, kept a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Role
from apihour_console.fleet.census import Seen
from apihour_console.fleet.choice import fitness
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.context import HostsView

__all__ = ["Values"]

_KEPT = 1.0  # seconds
_DEADLINE = 0.5  # seconds; somebody has pressed Tab and waits


class _Asked(Protocol):
    """The fleet, as far as it is needed here."""

    hosts: HostsView | None

    @property
    def catalogue(self) -> Catalogue: ...
    def choose(self, selector: str = "all") -> list[Seen]: ...
    async def collect(
        self, command: str, arguments: Mapping[str, Any], role: Role, workers: Sequence[Seen],
        deadline: float,
    ) -> Collected: ...


class Values:
    """Values by the type of a parameter."""

    def __init__(self, fleet: _Asked) -> None:
        self._fleet = fleet
        self._kept: dict[str, tuple[float, list[str]]] = {}

    async def of(self, kind: str) -> list[str]:
        """Those of one type: worker, host, connection, task, server, logger, command; else none."""
        at, values = self._kept.get(kind, (0.0, []))
        if time.monotonic() - at > _KEPT:
            values = await self._ask(kind)
            self._kept[kind] = (time.monotonic(), values)
        return values

    async def _ask(self, kind: str) -> list[str]:
        if kind == "host":
            return self._fleet.hosts.names() if self._fleet.hosts is not None else []
        if kind == "command":
            return [one.name for one in self._fleet.catalogue]
        workers = self._fleet.choose()
        if kind == "worker":
            names = [one.row.worker for one in workers]
            return [*dict.fromkeys(str(one.row.slot) for one in workers), *names, "all"]
        asked = {"connection": ("conns", "id"), "task": ("tasks", "id"),
                 "server": ("servers", "name"), "logger": ("log", "logger")}.get(kind)
        if asked is None:
            return []
        if kind in ("server", "logger"):  # the same in all of them
            workers = sorted(workers, key=fitness)[:1]
        found = await self._fleet.collect(asked[0], {}, Role.OBSERVER, workers, _DEADLINE)
        return sorted({str(row[asked[1]]) for row in found.rows})
