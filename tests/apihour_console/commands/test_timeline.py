"""What ``events`` tells of the arbiter's records and of operators' commands."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from apihour.ops.commands import built_in
from apihour.ops.model import Role
from apihour_console.calls.call import Identity, Missing, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.commands import operations
from apihour_console.commands.timeline import commands
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.providers import deeds_provider
from apihour_console.shell.runner import Runner
from tests.apihour_console.shell.test_runner import Page
from tests.apihour_console.support import LOGGER

RECORDS = [
    """hook child_exit failed
Traceback (most recent call last):
  File "/srv/shop/hooks.py", line 3, in child_exit
    raise ValueError("no such row")
ValueError: no such row""",
    """hook on_exit failed: /srv/shop/hooks.py:5: 1 / 0: ZeroDivisionError: division by zero
Traceback (most recent call last):
  File "/srv/shop/hooks.py", line 5, in on_exit
    1 / 0
ZeroDivisionError: division by zero""",
    "Traceback (most recent call last):\n  of a line before",
    "Worker 1.1 (pid: 7) is blocked for 2.0 s:\nprocess 7 is stopped by a signal",
    'Worker 1.1 (pid: 7) is blocked for 2.0 s in a.py:3:\nCurrent thread\n  File "a.py", line 3',
]
TOLD = [
    "hook child_exit failed: ValueError: no such row",
    "hook on_exit failed: /srv/shop/hooks.py:5: 1 / 0: ZeroDivisionError: division by zero",
    "Worker 1.1 (pid: 7) is blocked for 2.0 s: process 7 is stopped by a signal",
    "Worker 1.1 (pid: 7) is blocked for 2.0 s in a.py:3:",
]


class Fleet:
    """One whose commands fail, or lack a worker, and an arbiter with one record."""

    def __init__(self, result: Result) -> None:
        self.catalogue = built_in()
        self.catalogue.update(operations.commands)
        self.result = result
        self.providers: dict[str, Any] = {}

    async def execute(self, call: Any, identity: Identity) -> Result:
        return self.result

    async def arbiter(self, command: str, *rest: Any) -> list[dict[str, Any]]:
        return [{"pid": 1, "number": number, "time": float(number), "level": 40,
                 "logger": "gunicorn.error", "message": message}
                for number, message in enumerate(RECORDS)]


async def told(fleet: Fleet, audit: AuditLog) -> list[str]:
    fleet.providers["deeds"] = deeds_provider(audit)
    context: Any = SimpleNamespace(
        fleet=fleet, call=parse_call(["events"], fleet.catalogue),
        arbiter=lambda command, *rest, **more: fleet.arbiter(command))
    entry = commands.entry("events")
    assert entry is not None and entry.function is not None
    return [row.what async for row in entry.function(context)]


async def run(result: Result, line: str) -> tuple[str, list[str]]:
    fleet, audit = Fleet(result), AuditLog(None, LOGGER)
    runner = Runner(fleet, audit, Identity("ann", role=Role.ADMIN), Page())  # type: ignore[arg-type]
    await runner.run_line(line)
    (record,) = audit.recent()
    return record.outcome, await told(fleet, audit)


def test_events_and_audit_tell_why_a_command_failed() -> None:
    outcome, what = asyncio.run(run(
        Result(status=1, error="reload: app.py:3: NameError: x\nand more"), "reload"))
    assert outcome == "reload: app.py:3: NameError: x"
    assert what == [*TOLD, "reload: reload: app.py:3: NameError: x"]


def test_and_which_worker_was_missing() -> None:
    result = Result(status=75, missing=[Missing("2.1", "stopped by a signal")])
    outcome, what = asyncio.run(run(result, "gc --collect"))
    assert outcome == "worker 2.1: stopped by a signal"
    assert what[-1] == "gc --collect: worker 2.1: stopped by a signal"


def test_a_secret_in_the_reason_is_not_kept() -> None:
    result = Result(status=1, error="reload: password=hunter2 is wrong")
    outcome, _ = asyncio.run(run(result, "reload"))
    assert "hunter2" not in outcome
