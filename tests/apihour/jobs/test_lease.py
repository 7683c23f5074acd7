"""The right to run one job, in a store whose answers may be lost, or old."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apihour.errors import JobError, SharedDownError
from apihour.jobs.lease import Lease
from apihour.jobs.running import JobRun
from apihour.shared.backend import Entry
from tests.apihour.jobs.memory import Clock, Memory


class Far(Memory):
    """A store that does what it is told, and whose next answer is lost; or that reads the past."""

    loses = False
    past: Entry | None = None

    async def put(self, key: str, *words: Any) -> int:
        revision = await super().put(key, *words)
        if self.loses:
            self.loses = False
            raise SharedDownError("no answer")
        return revision

    async def get(self, key: str) -> Entry | None:
        return self.past or await super().get(key)


async def test_a_renewal_whose_answer_is_lost_loses_nothing() -> None:
    store = Far(Clock())
    lease = Lease(store, "job", 10.0, "1.1")
    assert await lease.take()
    store.loses = True
    with pytest.raises(SharedDownError):
        await lease.renew()
    assert await lease.renew()
    assert await lease.renew()
    assert not await Lease(store, "job", 10.0, "2.1").take()


async def test_what_has_expired_is_not_renewed_nor_is_anothers() -> None:
    clock = Clock()
    store = Far(clock)
    lease, other = Lease(store, "job", 10.0, "1.1"), Lease(store, "job", 10.0, "1.1")
    assert await lease.take()
    clock.now += 10.1
    assert not await lease.renew()
    assert await other.take()
    assert other.token > lease.token
    assert not await lease.renew()


async def test_a_run_is_not_assured_by_who_reads_the_past() -> None:
    clock = Clock()
    store = Far(clock)
    lease = Lease(store, "job", 10.0, "1.1")
    assert await lease.take()
    run = JobRun("job", 0.0, "1.1", lease)
    await run.check()
    store.past = await store.get("job")
    clock.now += 10.1
    assert await Lease(store, "job", 10.0, "2.1").take()
    with pytest.raises(JobError, match="its lease is gone"):
        await run.check()


async def test_a_run_that_looks_while_its_lease_is_renewed_is_assured() -> None:
    store = Far(Clock())
    lease = Lease(store, "job", 10.0, "1.1")
    assert await lease.take()
    assert all(await asyncio.gather(*(lease.renew() for _ in range(10))))
