"""The Python prompt's front: blocks, more lines, audit; evaluation is the worker's."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from apihour.ops.model import Role
from apihour_console.calls.call import Identity
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.repl import Repl, blocks, wants_more
from apihour_console.shell.runner import Runner
from tests.apihour_console.support import PythonFleet


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("1 + 1", False), ("for x in y:", True), ("for x in y:\n    print(x)", True),
        ("for x in y:\n    print(x)\n    ", False), ("(1,", True), ("'''", True),
        ("await container.ops()", False), ("a b c", False), ("x = 1\ny = 2", False),
        ("async with x:\n    pass", True), ("x = 1\nfor y in z:", True),
    ],
)
def test_more_lines(source: str, more: bool) -> None:
    assert wants_more(source) is more


def test_blocks_of_a_paste() -> None:
    source = "x = 1\n@d\ndef f():\n    return 1\n\nawait f()\n"
    assert blocks(source) == ["x = 1", "@d\ndef f():\n    return 1\n", "await f()\n"]
    assert blocks("x = 1; y = 2") == ["x = 1; y = 2"]
    assert blocks("not python") == ["not python"]


class Sink:
    width: int | None = None
    colour = False
    leaves_unnoticed = False

    def __init__(self) -> None:
        self.text = ""

    async def out(self, text: str) -> None:
        self.text += text

    err = out


async def test_a_dialogue_is_evaluated_and_audited() -> None:
    sink, log = Sink(), AuditLog(None, logging.getLogger("tests"))
    runner = Runner(PythonFleet(), log, Identity("me", role=Role.ADMIN), sink)
    repl = Repl(runner, "1", "s")
    lines = iter(["1 + 1", "", "--help", "1 / 0\n3", "gone\n4", "5 * 5"])

    async def ask(prompt: str) -> str:
        for line in lines:
            return line
        raise EOFError

    async def guard(work: Any) -> int:
        return int(await work)

    status = await repl.loop(ask, guard, lambda text: None)
    assert "2\n[2J" in sink.text and "ZeroDivisionError" in sink.text
    assert "there is none" in sink.text
    assert status == 0 and "25\n" in sink.text  # it stays: what comes next is Python's, too
    records = [(one.event, one.command, one.status) for one in log.recent()]
    assert records[0] == ("python", "1 + 1", 0)
    assert ("python", "1 / 0", 1) in records and ("python", "3", 0) not in records


async def test_completion_replaces_the_last_name() -> None:
    log = AuditLog(None, logging.getLogger("tests"))
    repl = Repl(Runner(PythonFleet(), log, Identity("me", role=Role.ADMIN), Sink()), "1", "s")
    found = [(one.text, one.replaces) async for one in repl.complete("print(container.se")]
    assert found == [("container.se_one", 12)]
    assert [one async for one in repl.complete("x + ")] == []
