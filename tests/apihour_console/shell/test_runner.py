"""One line, run and printed."""

from __future__ import annotations

import json

import pytest

from apihour.ops.model import Role
from apihour_console.calls.call import Identity
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.runner import Runner
from tests.apihour_console.support import LOGGER, FakeFleet


class Page:
    """A sink that remembers; not a terminal."""

    width = height = None
    colour = leaves_unnoticed = False

    def __init__(self) -> None:
        self.printed = self.complained = ""

    async def out(self, text: str) -> None:
        self.printed += text

    draw = out

    async def err(self, text: str) -> None:
        self.complained += text


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_a_stream_ends_at_its_limit(limit: int) -> None:
    page, fleet = Page(), FakeFleet()
    runner = Runner(fleet, AuditLog(None, LOGGER), Identity("ann", role=Role.ADMIN), page)
    assert await runner.run_line(f"numbers --json --limit {limit}") == 0
    rows = [json.loads(line) for line in page.printed.splitlines()]
    assert [row["number"] for row in rows] == list(range(1, limit + 1))
