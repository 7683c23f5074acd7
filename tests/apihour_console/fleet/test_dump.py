"""The stack of a process that ends while it is asked for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apihour.ipc.faults import stack_path
from apihour.ipc.runtime import Runtime
from apihour_console.fleet import dump as module
from apihour_console.fleet.dump import dump


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setattr(module, "catches", lambda pid: True)
    found = Runtime(tmp_path)
    stack_path(found, 999_999_999).touch()
    return found


async def test_it_has_just_ended(runtime: Runtime) -> None:
    assert await dump(runtime, 999_999_999, 1.0) == []  # there is no such process


async def test_its_file_goes_meanwhile(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "kill", lambda pid, sig: None)
    asked = asyncio.ensure_future(dump(runtime, 999_999_999, 10.0))
    await asyncio.sleep(0.05)
    stack_path(runtime, 999_999_999).unlink()
    assert await asyncio.wait_for(asked, 5) == []
