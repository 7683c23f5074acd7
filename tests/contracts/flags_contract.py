"""What ``container.flags`` does on every store, as tests to inherit, as SharedContract is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from apihour.errors import SharedError
from apihour.shared.backend import SharedBackend
from apihour.shared.flags import PREFIX, Flags


async def wait_until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another connection makes it so
            await asyncio.sleep(0.005)


@asynccontextmanager
async def started(*flags: Flags) -> AsyncIterator[None]:
    """They follow their stores meanwhile."""
    try:
        for one in flags:
            await one.start()
        yield
    finally:
        for one in flags:
            await one.close()


class FlagsContract:
    """The tests."""

    async def test_what_one_sets_all_have(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        one, two = Flags(shared), Flags(another)
        await one.put("early", 7)
        async with started(one, two):
            assert two.get("early", 0) == 7
            for value in (True, "a text ☃", 2.5, -3):
                await one.put("x", value)
                assert one.get("x", value) == value
                await wait_until(lambda value=value: two.state("x").value == value)  # type: ignore[misc]
            await two.reset("x")
            await wait_until(lambda: one._records["x"].value is None)
            assert [one.get("x", 1), two.get("x", 1)] == [1, 1]
            assert one.age < 30 > two.age

    async def test_what_the_store_loses_is_put_back(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        one, two = Flags(shared), Flags(another, {"off": True})
        async with started(one, two):
            await one.put("kept", 5)
            await one.put("off", False)
            await one.reset("off")
            await wait_until(lambda: len(two._records) == 2)
            for entry in await shared.items(PREFIX):
                await shared.delete(entry.key)
            assert two.get("kept", 0) == 5
            async with asyncio.timeout(30):
                while len(await shared.items(PREFIX)) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            late = Flags(another, {"off": True})
            async with started(late):
                assert (late.get("kept", 0), late.get("off", False)) == (5, True)
            await one.put("kept", 6)
            await wait_until(lambda: two.get("kept", 0) == 6)

    async def test_rubbish_in_the_store_is_passed_over(
        self, shared: SharedBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        for data in (b"", b"\xff", b"{}", b"[1]", b"[[], 1]", b'["' + b"x" * 500 + b'", 1]',
                     b"[1, null]", b"[1e999, 1]", b"[" * 100_000, b'[{"a": 1}, 1]'):
            await shared.put(PREFIX + f"n{len(data)}.{data[:6].hex()}", data)
        await shared.put(PREFIX + "not a name", b"[1, 1]")
        await shared.put(PREFIX + "good", b"[1, 1]")
        flags = Flags(shared)
        async with started(flags):
            assert [flag.name for flag in flags.all()] == ["good"]
        assert caplog.text.count("is passed over") == 11
        with pytest.raises(SharedError, match="expected `await container"):
            Flags(shared).get("good", 1)
