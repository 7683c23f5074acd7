"""The prompt: search, choices, signs of other shells; typed at in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apihour_console.shell.audit import AuditLog
from tests.apihour_console.memory import LOGGER, Operator
from tests.apihour_console.support import PythonFleet, wait_until


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """One operator at a prompt."""
    found = Operator(PythonFleet(), AuditLog(None, LOGGER), size=(80, 24), directory=tmp_path)
    await found.expect("apihour>")
    yield found
    await found.close()


async def run(operator: Operator, line: str, pattern: str) -> None:
    await operator.type(line + "\r")
    await operator.expect(f"{pattern}.*apihour>")


async def test_enter_runs_the_line_that_a_search_found(operator: Operator) -> None:
    await run(operator, "workers --limit 1", "WORKER")
    await run(operator, "version", "apihour 1.0")
    await operator.type("\x12limit")
    await operator.expect("--limit 1")
    await operator.type("\r")
    await operator.expect(r"WORKER.*1\.1.*apihour>")
    await run(operator, "version", "apihour 1.0")  # the next line is whole, and nothing else's
    assert operator.commands() == ["workers --limit 1", "version", "workers --limit 1", "version"]


@pytest.mark.parametrize("key", ["\x05", "\x1b[C", "\x1b[D", "\t"])
async def test_a_movement_ends_the_search_and_edits_the_line(operator: Operator, key: str) -> None:
    await run(operator, "workers --limit 1", "WORKER")
    await operator.type("\x12limit")
    await operator.expect("--limit 1")
    await operator.type(key + "\x05 --csv\r")
    await operator.expect("worker,pid.*apihour>")
    assert operator.commands()[-1] == "workers --limit 1 --csv"


async def test_control_c_leaves_the_search(operator: Operator) -> None:
    await run(operator, "workers", "WORKER")
    await operator.type("\x12work")
    await operator.expect("workers")
    await operator.type("\x03")
    await run(operator, "version", "apihour 1.0")
    assert operator.commands() == ["workers", "version"]


async def test_more_choices_than_are_shown_are_counted(operator: Operator) -> None:
    await operator.type("\t")
    await operator.expect(r"\d\d choices, Tab goes on")
    await operator.type("\t\t")
    await operator.expect("clear 2")  # of so many: only what changed is drawn
    at = len(operator.raw)
    await operator.type("\r")
    await operator.expect("apihour>.*apihour>")
    assert " of " not in operator.raw[at:]
    await operator.type("workers --sort \t")
    await operator.expect("worker.*pid.*state.*age")
    assert "choices" not in operator.text


async def test_clear_and_what_other_shells_can(operator: Operator) -> None:
    await run(operator, "workers | grep x", r"'\|': there are no pipes")
    await run(operator, "version; workers", "';': one command a line")
    await operator.type("clear\r")
    await wait_until(lambda: "\x1b[H\x1b[2J" in operator.raw, 30)
    await operator.expect("apihour>")
    assert operator.commands() == ["clear"]


async def test_control_z_is_no_part_of_the_line(operator: Operator) -> None:
    await run(operator, "ver\x1asion\x1a", "apihour 1.0")
    assert operator.commands() == ["version"]
