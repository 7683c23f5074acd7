"""What may come next on a command line."""

from __future__ import annotations

import pytest

from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Role
from apihour_console.commands import operations
from apihour_console.shell.completion import complete
from tests.apihour_console.support import FakeFleet


async def texts(line: str, role: Role = Role.ADMIN) -> list[str]:
    fleet = FakeFleet()
    return [one.text async for one in complete(line, fleet.catalogue, role, fleet.values)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wor", ["workers"]), ("w", ["wait", "watch", "workers"]), ("nonsense ", []),
        ("stack ", ["1.1", "2.1"]), ("stack 2", ["2.1"]), ("stack --fr", ["--frames"]),
        ("workers --wor", ["--worker"]), ("workers --worker ", ["all", "1.1", "2.1"]),
        ("workers --sort ag", ["age"]), ("workers --sort -a", ["-age"]),
        ("workers --sort ", ["worker", "pid", "state", "age"]),
        ("workers --sort -", ["-worker", "-pid", "-state", "-age"]),
        ("workers --filter st", ["state="]), ("workers --limit ", []),
        ("workers --host ", ["all", "web-1", "web-2"]), ("workers --host w", ["web-1", "web-2"]),
        ("stack --host web-1 ", ["1.1", "2.1"]), ("stack @", ["@web-1:", "@web-2:"]),
        ("workers --worker @web-2", ["@web-2:"]),
        ("watch 2 stack @web-1", ["@web-1:"]), ("workers --sort @", []),
        ("watch wor", ["workers"]), ("watch stack 2", ["2.1"]), ("watch 2 wor", ["workers"]),
        ("watch 2 stack 2", ["2.1"]),
        ("watch 2 workers --js", ["--json"]), ("stack 'open", []),
    ],
)
async def test_choices(line: str, expected: list[str]) -> None:
    assert await texts(line) == expected


async def test_what_a_role_may_not_do_is_not_offered() -> None:
    assert "reload" not in await texts("", Role.OBSERVER)
    assert "reload" in await texts("", Role.OPERATOR)
    assert "kick" not in await texts("", Role.OPERATOR)
    assert await texts("kick ", Role.OBSERVER) == []


async def test_what_is_replaced_is_the_last_word() -> None:
    fleet = FakeFleet()
    found = [one async for one in complete("stack 2.", fleet.catalogue, Role.ADMIN, fleet.values)]
    assert [(one.text, one.replaces) for one in found] == [("2.1", 2)]


async def test_columns_are_those_of_what_is_chosen_and_of_groups() -> None:
    catalogue = Catalogue()
    catalogue.update(operations.commands)

    async def offered(line: str) -> list[str]:
        return [one.text async for one in complete(line, catalogue, Role.ADMIN, FakeFleet().values)]

    assert await offered("kick --filter pe") == ["peer="]
    assert await offered("cancel --filter whe") == ["where="]
    assert await offered("conns --by ") == ["peer", "route", "server", "state", "worker"]
    assert await offered("conns --by peer --sort co") == ["count"]
    assert await offered("conns --sort co") == []
    assert await offered("kick @web-2") == ["@web-2:"]
