"""``mem`` over two workers: what is said where there are no rows yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.ops.model import CommandFailed, Role
from apihour_console.calls.call import Identity, Missing
from apihour_console.calls.parsing import parse_call
from apihour_console.commands import operations
from apihour_console.commands.code import commands
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.context import ConsoleContext

ROW = {"worker": "1.1", "where": "shop.py:7", "size": 100, "count": 1, "change": 100}


class Workers:
    """A fleet that answers what it was given."""

    def __init__(self, found: Collected) -> None:
        self.found = found
        self.asked: list[Any] = []

    def choose(self, selector: str = "all") -> list[Any]:
        return [SimpleNamespace(row=SimpleNamespace(worker=f"{slot}.1")) for slot in (1, 2)]

    async def collect(
        self, command: str, arguments: Any, role: Role, workers: Any, deadline: float
    ) -> Collected:
        self.asked.append((command, arguments))
        return self.found


async def mem(line: str, found: Collected) -> tuple[list[Any], ConsoleContext, Workers]:
    catalogue: Catalogue = built_in()
    catalogue.update(operations.commands)
    call = parse_call(["mem", *line.split()], catalogue)
    fleet = Workers(found)
    context = ConsoleContext(fleet, call, Identity("ann", role=Role.ADMIN))  # type: ignore[arg-type]
    entry = commands.entry("mem")
    assert entry is not None and entry.function is not None
    arguments = dict(call.arguments)
    return await entry.function(context, arguments.pop("worker"), **arguments), context, fleet


@pytest.mark.parametrize(("line", "hint"), [
    ("--start", "allocations are traced from now on: mem --diff shows what grew, mem --stop ends"),
    ("--stop", "allocations are traced no more"), ("--diff", ""), ("", ""),
])
async def test_what_to_do_next(line: str, hint: str) -> None:
    _, context, fleet = await mem(line, Collected([ROW]))
    assert " ".join(context.hints).startswith(hint) and bool(context.hints) is bool(hint)
    [(command, arguments)] = fleet.asked
    assert command == "mem" and arguments["start"] is (line == "--start")


async def test_all_that_refuse_are_one_refusal_and_one_of_two_is_missing() -> None:
    failure = ("2.1", CommandFailed("mem: allocations are not traced yet; begin with mem --start"))
    with pytest.raises(CommandFailed, match="begin with mem --start"):
        await mem("", Collected(failures=[failure]))
    rows, context, _ = await mem("", Collected([ROW], failures=[failure]))
    assert rows == [ROW] and context.missing == [Missing("2.1", str(failure[1]))]
