"""Whom ``kick`` and ``cancel`` act on, over two workers that remember what they were asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.ops.model import CommandFailed, Role
from apihour_console.calls.call import Identity, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.commands import operations
from apihour_console.commands.lists import commands
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.context import ConsoleContext

CONNECTIONS = [
    {"id": f"{worker}.1-{number}", "worker": f"{worker}.1", "peer": f"10.0.0.{number}:99",
     "state": "idle", "age": age, "server": "http"}
    for worker, number, age in ((1, 1, 5.0), (1, 2, 90.0), (2, 3, 30.0), (2, 4, 1.0))
]


class TwoWorkers:
    """A fleet that has those connections, and ends what it is told to."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.workers = [SimpleNamespace(row=SimpleNamespace(worker=f"{slot}.1"))
                        for slot in (1, 2)]

    def choose(self, selector: str = "all") -> list[Any]:
        return self.workers

    async def collect(
        self, command: str, arguments: Any, role: Role, workers: Any, deadline: float
    ) -> Collected:
        if command == "conns":
            return Collected(list(CONNECTIONS))
        self.ended += arguments["connections"]
        return Collected([{"id": one, "peer": "", "server": ""}
                          for one in arguments["connections"]])


def catalogue() -> Catalogue:
    found = built_in()
    found.update(operations.commands)
    return found


async def kick(fleet: TwoWorkers, line: str) -> list[dict[str, Any]]:
    call = parse_call(["kick", *line.split()], catalogue())
    context = ConsoleContext(fleet, call, Identity("ann", role=Role.ADMIN))  # type: ignore[arg-type]
    entry = commands.entry("kick")
    assert entry is not None and entry.function is not None
    return Result.of(call, await entry.function(context, call.arguments["connection"])).rows


@pytest.mark.parametrize(("line", "ended"), [
    ("--filter state=idle --limit 1", ["1.1-1"]),
    ("--filter state=idle --sort -age --limit 2", ["1.1-2", "2.1-3"]),
    ("--filter age>10", ["1.1-2", "2.1-3"]),
    ("--filter state=idle --limit 0", []),
])
async def test_those_are_ended_that_are_shown(line: str, ended: list[str]) -> None:
    fleet = TwoWorkers()
    rows = await kick(fleet, line)
    assert fleet.ended == ended and [row["id"] for row in rows] == ended


@pytest.mark.parametrize(("line", "said"), [
    ("1.1-1 --limit 0", "'1.1-1' and --limit; expected one of them"),
    ("1.1-1 --filter age>1", "'1.1-1' and --filter; expected one of them"),
    ("--limit 1", "expected a connection's id, or --filter to choose"),
])
async def test_a_choice_that_is_none_ends_nothing(line: str, said: str) -> None:
    fleet = TwoWorkers()
    with pytest.raises(CommandFailed, match=said):
        await kick(fleet, line)
    assert fleet.ended == []


async def test_a_choice_of_nobody_says_so() -> None:
    call = parse_call(["kick", "--filter", "age>1h"], catalogue())
    context = ConsoleContext(TwoWorkers(), call, Identity("ann", role=Role.ADMIN))  # type: ignore[arg-type]
    entry = commands.entry("kick")
    assert entry is not None and entry.function is not None
    assert await entry.function(context, None) == []
    assert context.hints == ["kick: the filter chooses none of 4 rows of conns"]
