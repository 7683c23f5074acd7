"""Rates that several workers have together: never more than was said, seldom less, seldom asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.app.container import Container
from apihour.errors import SharedDownError, SharedError
from apihour.shared.shared_limits import PREFIX, SharedLimit, SharedLimits
from apihour.shared.store import Shared


class Counted:
    """A store that counts what it is asked, and can be away."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.asked = 0
        self.is_away = False

    async def update(self, key: str, change: Any, ttl: float | None = None) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise SharedDownError("away")
        return await self.shared.update(key, change, ttl)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Counted]:
    shared = Shared(tmp_path / "shared")
    yield Counted(shared)
    await shared.close()


async def spend(limit: SharedLimit, number: int, key: str = "") -> int:
    return sum([await limit.take(key) for _ in range(number)])


async def test_all_workers_together_have_no_more_than_the_bucket(store: Counted) -> None:
    clock = Clock()
    workers = [SharedLimit("n", 100, 60, 100, store, clock) for _ in range(4)]  # type: ignore[arg-type]
    spent = await asyncio.gather(*(spend(limit, 200) for limit in workers))
    assert sum(spent) == 100
    clock.now += 6
    for limit in workers:
        limit._ahead.clear()
    spent = await asyncio.gather(*(spend(limit, 200) for limit in workers))
    assert sum(spent) == 10
    clock.now -= 5  # another host's clock
    for limit in workers:
        limit._ahead.clear()
    assert sum(await asyncio.gather(*(spend(limit, 200) for limit in workers))) == 0


async def test_a_request_seldom_asks_the_store(store: Counted) -> None:
    limit = SharedLimit("n", 10_000, 1, 10_000, store)  # type: ignore[arg-type]
    assert await spend(limit, 5000) == 5000
    assert store.asked < 20
    slow = SharedLimit("m", 1, 3600, 1, store)  # type: ignore[arg-type]
    asked = store.asked
    assert await spend(slow, 5000) == 1
    assert store.asked - asked < 5, "who is refused does not ask either"
    await limit.close()
    await slow.close()


async def test_keys_are_counted_by_themselves(store: Counted) -> None:
    limit = SharedLimit("n", 3, 3600, 3, store)  # type: ignore[arg-type]
    assert [await spend(limit, 10, key) for key in ("a", "b", "é ☃")] == [3, 3, 3]
    with pytest.raises(SharedError, match="printable"):
        await limit.take("\n")


async def test_what_is_not_needed_is_given_back(store: Counted) -> None:
    first, second = (SharedLimit("n", 80, 3600, 80, store) for _ in range(2))  # type: ignore[arg-type]
    assert await spend(first, 2) == 2  # it has one ahead
    assert await spend(second, 100) < 78
    async with asyncio.timeout(30):
        while first._ahead:  # noqa: ASYNC110 - time makes it so
            await asyncio.sleep(0.01)
    second._ahead.clear()
    assert await spend(second, 10) >= 1
    third = SharedLimit("m", 80, 3600, 80, store)  # type: ignore[arg-type]
    await spend(third, 4)
    await third.close()
    entry = await store.shared.get(f"{PREFIX}m/")
    assert entry is not None
    assert float(entry.value.split()[0]) == pytest.approx(76, abs=0.1)


async def test_without_the_store_each_worker_counts_for_itself(store: Counted) -> None:
    store.is_away = True
    workers = [SharedLimit("n", 5, 3600, 5, store) for _ in range(2)]  # type: ignore[arg-type]
    assert [await spend(limit, 20) for limit in workers] == [5, 5]


async def test_a_bucket_that_is_none_is_a_full_one(store: Counted) -> None:
    for value in (b"", b"x", b"1", b"1 2 3", b"nan x", b"5 inf", b"5 99999999999", b"nan nan"):
        await store.shared.put(f"{PREFIX}n/", value)
        limit = SharedLimit("n", 5, 3600, 5, store)  # type: ignore[arg-type]
        assert await spend(limit, 20) == 5


async def test_limits_have_names(store: Counted) -> None:
    limits = SharedLimits(store)  # type: ignore[arg-type]
    limit = limits("logins", 10, per=60)
    assert limits("logins", 10, per=60) is limit
    with pytest.raises(ValueError, match=r"'logins'.*expected as before, 10 per 60 s"):
        limits("logins", 20, per=60)
    nan, inf = float("nan"), float("inf")
    wrongs: list[Any] = [
        (0, 1, None), (1, 0, None), (0.5, 1, None), (1, 1, 0), (nan, 1, 1), (nan, 1, None),
        (inf, 1, 1), (inf, 1, None), (None, 1, 1), (1, None, 1), (1, nan, 1), (1, inf, 1),
        ("1", 1, 1), (1, "1", 1), (1, 1, "1"), (1, 1, nan)]
    for rate, per, burst in wrongs:
        with pytest.raises(ValueError, match="expected a rate"):
            limits("x", rate, per=per, burst=burst)
    await limits.close()


async def test_a_container_gives_back_what_it_has_at_its_end(tmp_path: Path) -> None:
    container = Container({}, SimpleNamespace(runtime=SimpleNamespace(shared=tmp_path / "s")))
    assert await spend(container.limits("n", 80, per=3600), 4) == 4
    await container.close_made()
    shared = Shared(tmp_path / "s")
    entry = await shared.get(f"{PREFIX}n/")
    assert entry is not None
    assert float(entry.value.split()[0]) == pytest.approx(76, abs=0.1)
    await shared.close()
