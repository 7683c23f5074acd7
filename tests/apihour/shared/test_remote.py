"""What stores in another program have in common: the time that a call may take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apihour.errors import RevisionError, SharedDownError
from apihour.shared.backend import Entry
from apihour.shared.remote import RemoteShared


async def answered_in_the_turn_of_the_timeout() -> None:
    """As asyncio.wait_for (3.11) of an answer that comes then: it is given back, not cancelled."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return


async def test_the_steps_of_a_call_have_its_time_together(tmp_path: Path) -> None:
    store = RemoteShared(tmp_path, deadline=0.2)

    async def call() -> None:
        await store.within(answered_in_the_turn_of_the_timeout())
        await store.within(asyncio.sleep(60), 30)

    clock = asyncio.get_running_loop().time
    began = clock()
    with pytest.raises(SharedDownError, match="no answer within"):
        await store.within(call())
    assert clock() - began < 5, "a step began anew when the call was over"


async def test_the_next_call_has_time_of_its_own(tmp_path: Path) -> None:
    store = RemoteShared(tmp_path, deadline=0.2)
    with pytest.raises(SharedDownError):
        await store.within(asyncio.sleep(60))
    assert await store.within(asyncio.sleep(0.05, "answer")) == "answer"


class Slow(RemoteShared):
    """Other writers win each time; its later answers come just in time."""

    takes = 0.05

    async def get(self, key: str) -> Entry | None:
        return await self.within(asyncio.sleep(self.takes, None))

    async def put(
        self, key: str, value: bytes, expected_revision: int | None = None,
        ttl: float | None = None,
    ) -> int:
        await self.within(asyncio.sleep(self.takes))
        self.takes = 0.7
        raise RevisionError(key, 0, 1)


async def test_an_update_against_slow_others_ends_within_two_deadlines(tmp_path: Path) -> None:
    store = Slow(tmp_path, deadline=0.71)
    with pytest.raises(SharedDownError):  # not at its third, by SharedBusyError
        await store.update("key", lambda value: b"")
