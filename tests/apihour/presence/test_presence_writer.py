"""What a worker writes of its entries: when the store is away, full, or the worker's task ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.app.container import Container
from apihour.errors import SharedDownError, SharedError
from apihour.presence import (
    ContainerPresence,
    PresenceError,
    container_presence,
    presence_pages,
    presence_writer,
)
from apihour.shared.store import Shared


class Away:
    """A store that can be away, and that can be slow."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            await self.gate.wait()
            if self.is_away:
                raise SharedDownError("away")
            return await getattr(self.shared, name)(*args, **named)
        return call if name in ("put", "delete", "items") else getattr(self.shared, name)


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Away]:
    monkeypatch.setattr(presence_writer, "BEAT", 0.05)
    monkeypatch.setattr(presence_writer, "_RETRY", 0.05)
    shared = Shared(tmp_path / "shared")
    yield Away(shared)
    await shared.close()


@pytest.fixture
async def presence(store: Away) -> AsyncIterator[ContainerPresence]:
    presence = ContainerPresence(store, "1")  # type: ignore[arg-type]
    yield presence
    await presence.close()


async def until(store: Away, wanted: list[str]) -> None:
    """Return when those, and no others, are there for somebody else."""
    other = ContainerPresence(store.shared, "other")
    async with asyncio.timeout(30):
        while sorted(one.who for one in await other.list()) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_while_the_store_is_away_nobody_joins_and_who_leaves_is_told_later(
    store: Away, presence: ContainerPresence
) -> None:
    store.is_away = True
    with pytest.raises(SharedDownError):
        await presence.join("a", "ada")
    assert presence.own() == []
    store.is_away = False
    ada, bob = await presence.join("a", "ada"), await presence.join("a", "bob")
    store.is_away = True
    with pytest.raises(SharedDownError):
        await presence.join("a", "eve")
    await presence.leave(ada)
    assert presence.own() == [bob]
    store.is_away = False
    await until(store, ["bob"])


async def test_a_store_that_lost_everything_is_told_again(
    store: Away, presence: ContainerPresence
) -> None:
    for who in ("ada", "bob"):
        await presence.join(f"at.{who}", who)
    for entry in await store.shared.items():
        await store.shared.delete(entry.key)
    await until(store, ["ada", "bob"])


async def test_a_join_that_is_cancelled_leaves_nobody_there(
    store: Away, presence: ContainerPresence
) -> None:
    await presence.join("a", "ada")
    store.gate.clear()
    joining = asyncio.ensure_future(presence.join("a", "bob"))
    other = asyncio.ensure_future(presence.join("a", "eve"))
    await asyncio.sleep(0.02)
    joining.cancel()
    await asyncio.wait({joining})
    assert joining.cancelled()
    store.gate.set()
    await other
    await until(store, ["ada", "eve"])
    assert len(presence.own()) == 2


async def test_a_block_that_is_cancelled_leaves(
    store: Away, presence: ContainerPresence
) -> None:
    async def block() -> None:
        async with presence.enter("a", "ada"):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(block())
    await until(store, ["ada"])
    task.cancel()
    await asyncio.wait({task})
    await until(store, [])


async def test_who_still_waits_at_the_end_is_told(store: Away) -> None:
    presence = ContainerPresence(store, "1")  # type: ignore[arg-type]
    await presence.join("a", "ada")
    store.gate.clear()
    joining = asyncio.ensure_future(presence.join("b", "bob"))
    leaving = asyncio.ensure_future(presence.leave(presence.own()[0]))
    await asyncio.sleep(0.02)
    closing = asyncio.ensure_future(presence.close())
    with pytest.raises(SharedError, match="closed"):
        await asyncio.wait_for(joining, 30)
    await asyncio.wait_for(leaving, 30)
    store.gate.set()
    await asyncio.wait_for(closing, 30)
    await until(store, [])
    assert await store.shared.items() == []


async def test_pages_that_are_old_are_written_again_a_part_at_a_beat(
    store: Away, presence: ContainerPresence, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*(presence.join(f"at.{number}", "ada") for number in range(100)))
    before = {entry.key: entry.revision for entry in await store.shared.items()}
    monkeypatch.setattr(presence_writer, "_PAGE_TTL", 0.0004)
    monkeypatch.setattr(presence_writer, "BEAT", 60)
    presence._writer._refresh()
    monkeypatch.setattr(presence_writer, "_PAGE_TTL", 600)
    await presence.leave(presence.own()[50])  # after what was due
    after = {entry.key: entry.revision for entry in await store.shared.items()}
    assert 6 <= len([key for key in after if after[key] != before[key]]) <= 7  # or a beat


async def test_a_worker_has_so_many_at_most(
    presence: ContainerPresence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_presence, "_MOST", 2)
    for _ in range(2):
        await presence.join("a", "ada")
    with pytest.raises(PresenceError, match="2 entries; expected at most 2"):
        await presence.join("a", "ada")


async def test_pages_have_a_size_and_what_gets_free_is_used(
    store: Away, presence: ContainerPresence
) -> None:
    async def pages() -> int:
        found = await store.shared.items(presence_pages.AT)
        assert max(len(entry.value) for entry in found) <= presence_pages.SIZE
        return len(found)

    note = "x" * 900
    entries = [await presence.join("a", f"user{number:02}", note=note) for number in range(68)]
    assert await pages() == 4
    for entry in entries[5:10]:
        await presence.leave(entry)
    for number in range(5):
        await presence.join("a", f"new{number:03}", note=note)
    assert await pages() == 4
    await until(store, sorted(one.who for one in presence.own()))


async def test_a_container_says_at_its_end_that_all_are_gone(tmp_path: Path) -> None:
    worker = SimpleNamespace(runtime=SimpleNamespace(shared=tmp_path / "s"), name="1.1")
    container = Container({}, worker)
    assert (await container.presence.join("a", "ada")).worker == "1.1"
    await container.close_made()
    shared = Shared(tmp_path / "s")
    assert await shared.items() == []
    await shared.close()


async def test_a_first_join_that_is_cancelled_stops_no_sign_of_life(
    store: Away, presence: ContainerPresence
) -> None:
    store.gate.clear()
    joining = asyncio.ensure_future(presence.join("a", "ada"))
    await asyncio.sleep(0.02)
    joining.cancel()
    await asyncio.wait({joining})
    store.gate.set()
    async with asyncio.timeout(30):
        while not (signs := await store.shared.items(presence_pages.BY)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await presence.join("a", "bob")
        while True:
            now = await store.shared.get(signs[0].key)
            assert now is not None, "it has ended"
            if now.revision >= signs[0].revision + 3:
                break
            await asyncio.sleep(0.01)


async def test_a_store_that_is_away_for_long_leaves_nothing_behind_in_memory(
    store: Away, presence: ContainerPresence
) -> None:
    await presence.join("a", "ada")
    store.is_away = True
    for _ in range(20):
        joins = [presence.join(f"room.{number}", "bob") for number in range(5)]
        found = await asyncio.gather(*joins, return_exceptions=True)
        assert {type(one) for one in found} == {SharedDownError}
    writer = presence._writer
    assert len(writer._waited_for) <= 20  # for five pages
    store.is_away = False
    await until(store, ["ada"])
    async with asyncio.timeout(30):
        while writer._waited_for:  # noqa: ASYNC110 - nobody is told of the last one
            await asyncio.sleep(0.01)


async def test_what_cannot_be_shown_is_refused_like_what_cannot_be_said(
    presence: ContainerPresence
) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PresenceError, match="expected what JSON can say"):
        await presence.join("a", "ada", deep=deep)
    assert presence.own() == []


async def test_an_entry_is_what_others_see_of_it_whatever_becomes_of_what_was_given(
    presence: ContainerPresence
) -> None:
    seats = {1: ("a", "b")}
    entry = await presence.join("a", "ada", seats=seats)
    seats[2] = ("c", "d")
    assert entry.about == {"seats": {"1": ["a", "b"]}}
    assert await presence.list() == presence.own() == [entry]
