"""The connection to a worker that is about to start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apihour.ipc.runtime import Runtime
from apihour.ops.agent import Agent
from apihour.ops.model import Role
from apihour_console.fleet.link import Link, Unreachable
from tests.apihour.fakes import FakeWorker


async def test_a_worker_that_has_just_been_forked_is_waited_for(tmp_path: Path) -> None:
    worker = FakeWorker(Runtime(tmp_path))
    link = Link(worker.runtime.agent_socket(worker.pid))
    with pytest.raises(Unreachable):
        await link.begin(Role.ADMIN, 0.05)
    waiting = asyncio.create_task(link.begin(Role.ADMIN, 30.0))
    await asyncio.sleep(0)
    agent = Agent(worker)
    worker.start()
    agent.start()
    try:
        await waiting
        assert await link.call("conns", {}, Role.ADMIN, 30.0) == []
    finally:
        link.close()
        agent.stop()
        worker.stop()
