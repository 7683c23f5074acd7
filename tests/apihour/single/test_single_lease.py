"""A method that one worker of several daemons has: who is cut off from the store stops in time."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from apihour.errors import SharedDownError
from apihour.jobs.container_jobs import holder
from apihour.jobs.lease import LeaseGoneError
from apihour.shared.store import Shared
from apihour.single.singles import Singles

LOG = logging.getLogger("test")


class CutOff:
    """A store that can be unreachable from one daemon."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.is_reached = True

    def __getattr__(self, name: str) -> Any:
        async def call(*words: Any) -> Any:
            if not self.is_reached:
                await asyncio.sleep(0.2)
                raise SharedDownError("cut off")
            return await getattr(self.shared, name)(*words)

        return call


class House:
    """A container of one daemon, and what its service does."""

    def __init__(self, shared: Shared) -> None:
        self.shared = CutOff(shared)
        self.config = {"shared": "redis://somewhere", "jobs": {"lease": 1}}
        self.tokens: list[int] = []
        self.last = 0.0
        self.checks = False

    async def lead(self, run: Any) -> None:
        self.tokens.append(run.token)
        while True:
            self.last = time.monotonic()
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                if self.checks:  # as where it was cancelled in run.check()
                    raise LeaseGoneError("job 'lead': its lease is gone") from None
                raise


def daemon(path: Path, house: House) -> Singles:
    singles = Singles(path, "1.1", LOG, lambda: True, lambda: None)
    singles.watch_method(house, "lead")
    return singles


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - time makes it so
            await asyncio.sleep(0.01)


async def test_who_is_cut_off_stops_before_another_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Shared(tmp_path / "shared")
    first, second = House(shared), House(shared)
    one = daemon(tmp_path / "one", first)
    await until(lambda: first.tokens)
    two = daemon(tmp_path / "two", second)
    await asyncio.sleep(1.5)
    assert (len(first.tokens), second.tokens) == (1, [])  # it is renewed
    first.shared.is_reached, first.checks = False, True
    await until(lambda: second.tokens)
    began = time.monotonic()
    assert first.last < began
    await asyncio.sleep(0.1)
    assert first.last < began, "it has ended"
    assert second.tokens[0] > first.tokens[0]
    [gone] = [one for one in caplog.records if "its lease is gone" in one.getMessage()]
    assert gone.getMessage() == (
        "Worker 1.1: 'lead': its lease is gone, worker "
        f"{holder(first, '1.1')} was stopped, or the store was away, for over 1 s; next try in 1 s")
    assert not any(one.exc_info for one in caplog.records), "it is not the application's failure"
    first.shared.is_reached, first.checks = True, False
    assert await two.end("lead")
    two.release("lead")
    await until(lambda: len(first.tokens) == 2)
    assert first.tokens[1] > second.tokens[0], "given back, so at once"
    assert await one.end("lead")
    await shared.close()


async def test_without_a_shared_store_only_a_method_that_asks_has_a_token(tmp_path: Path) -> None:
    shared = Shared(tmp_path / "shared")
    house = House(shared)
    house.config = {}
    singles = daemon(tmp_path / "one", house)
    await until(lambda: house.tokens)
    assert house.tokens[0] > 0
    assert await singles.end("lead")
    await shared.close()
