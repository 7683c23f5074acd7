"""Tasks that do not end when they are told to the first time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apihour.ipc.task_end import end_task
from apihour.shared.flags import Flags
from apihour.shared.remote import RemoteShared


async def stubborn(*given: object) -> None:
    """Swallows what cancels it twice."""
    for _ in range(2):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
    await asyncio.sleep(3600)


async def test_a_task_is_cancelled_until_it_has_ended() -> None:
    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_task(task), 30)
    assert task.cancelled()
    await end_task(task)


async def test_one_that_ends_by_itself_keeps_what_it_raised() -> None:
    async def fail() -> None:
        raise OSError("gone")

    task = asyncio.ensure_future(fail())
    await asyncio.wait({task})
    await asyncio.wait_for(end_task(task), 30)
    with pytest.raises(OSError, match="gone"):
        task.result()


async def test_a_watch_of_a_store_elsewhere_ends_though_its_library_swallows_a_cancellation(
    tmp_path: Path
) -> None:
    watch: Any = RemoteShared(tmp_path, 1.0).tell(stubborn)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=30)
    assert waiting.cancelled()


async def test_flags_are_closed_though_a_store_swallows_a_cancellation() -> None:
    class Store:
        async def items(self, prefix: str) -> list[Any]:
            return []

        async def watch(self, prefix: str) -> AsyncIterator[Any]:
            await stubborn()
            yield

    store: Any = Store()
    flags = Flags(store)
    await flags.start()
    await asyncio.sleep(0.01)
    await asyncio.wait_for(flags.close(), 30)
