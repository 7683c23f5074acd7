"""What a command of the console is given: the fleet, the call and who calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from apihour.ipc.runtime import Runtime
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Role
from apihour_console.calls.call import Call, Identity, Missing, Result
from apihour_console.fleet.ask_arbiter import ask_arbiter
from apihour_console.fleet.census import Census, Seen
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.metrics import FleetMeter
from apihour_console.fleet.rates import Rates
from apihour_console.fleet.trouble import Recent

__all__ = ["ConsoleContext", "FleetView", "HostsView", "Provider"]

Provider = Callable[["ConsoleContext"], Any]
"""Carries out a command that the shell itself knows most of (``sessions``, ``audit``)."""


class HostsView(Protocol):
    """What is seen of the other hosts (:class:`apihour_console.hosts.hosts.Hosts`)."""

    async def execute(self, call: Call, identity: Identity) -> Result: ...
    def stream(
        self, call: Call, identity: Identity
    ) -> AsyncGenerator[dict[str, Any], None]: ...
    async def rows(self) -> tuple[list[Any], list[Missing]]: ...
    def names(self) -> list[str]: ...
    def forget(self, name: str) -> bool: ...
    def doubts(self) -> list[str]: ...
    async def reload(
        self, identity: Identity, at_once: int, give_back: bool, options: Sequence[str],
    ) -> tuple[list[Any], list[Missing]]: ...


class FleetView(Protocol):
    """What commands of the console see of the fleet."""

    runtime: Runtime
    hosts: HostsView | None

    def hosts_there(self) -> HostsView: ...

    census: Census
    rates: Rates
    recent: Recent
    disks: Mapping[str, str]
    meter: FleetMeter
    providers: dict[str, Provider]
    dumping: dict[int, asyncio.Lock]
    refused_bans: Callable[[], Mapping[str, int]]

    @property
    def catalogue(self) -> Catalogue: ...
    def choose(self, selector: str = "all") -> list[Seen]: ...
    async def ask(
        self, worker: Seen, command: str, arguments: Mapping[str, Any], role: Role,
        deadline: float,
    ) -> list[dict[str, Any]]: ...
    async def collect(
        self, command: str, arguments: Mapping[str, Any], role: Role, workers: Sequence[Seen],
        deadline: float,
    ) -> Collected: ...
    async def execute(self, call: Call, identity: Identity) -> Result: ...
    def follow(self, call: Call, role: Role) -> AsyncGenerator[dict[str, Any], None]: ...


@dataclass
class ConsoleContext:
    """First argument of the commands that the console carries out."""

    fleet: FleetView
    call: Call
    identity: Identity
    missing: list[Missing] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def workers(self) -> list[Seen]:
        """The workers the call is about. Raises CommandFailed when it names none there is."""
        return self.fleet.choose(self.call.worker)

    async def ask(
        self, command: str, deadline: float = 1.8, workers: Sequence[Seen] | None = None,
        **arguments: Any,
    ) -> list[dict[str, Any]]:
        """The rows of an agents' command; who does not answer is noted in ``missing``."""
        chosen = self.workers() if workers is None else workers
        found = await self.fleet.collect(command, arguments, self.identity.role, chosen, deadline)
        self.missing += found.missing
        self.missing += [Missing(worker, str(error)) for worker, error in found.failures]
        return found.rows

    async def arbiter(
        self, command: str, deadline: float, **arguments: Any
    ) -> list[dict[str, Any]]:
        """The rows of a command of the arbiter. Raises CommandFailed."""
        return await ask_arbiter(self.fleet.runtime, self.fleet.census, command, arguments,
                                 self.identity.role, deadline)
