"""What ``container.presence`` must do on every store behind ``container.shared``.

A test class gives one fixture, ``stores``: a function that opens the same store once more, as
another worker would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from apihour.errors import SharedError
from apihour.presence import (
    ContainerPresence,
    PresenceChange,
    PresenceEntry,
    PresenceError,
    presence_writer,
)

__all__ = ["PresenceContract", "Workers", "told"]

Seen = set[tuple[str, str, str]]


def seen(entries: list[PresenceEntry]) -> Seen:
    return {(one.subject, one.who, one.worker) for one in entries}


async def told(watch: AsyncIterator[PresenceChange], number: int) -> list[tuple[bool, str, str]]:
    """The next `number` changes of a watch, as (joined, who, worker)."""
    async with asyncio.timeout(30):
        changes = [await anext(watch) for _ in range(number)]
    return sorted((one.joined, one.entry.who, one.entry.worker) for one in changes)


class Workers:
    """Presences of several workers on one store."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._open = opened
        self.stores: dict[str, Any] = {}
        self.all: dict[str, ContainerPresence] = {}

    def new(self, name: str) -> ContainerPresence:
        self.stores[name] = self._open()
        self.all[name] = ContainerPresence(self.stores[name], name)
        return self.all[name]

    async def kill(self, name: str) -> None:
        """As kill -9 would: nothing more is written, nothing is taken back."""
        for task in self.all.pop(name)._writer._tasks.values():
            task.cancel()
            await asyncio.wait({task})

    async def close(self) -> None:
        for presence in self.all.values():
            await presence.close()
        for store in self.stores.values():
            await store.close()


class PresenceContract:
    """The tests."""

    @pytest.fixture
    async def stores(self) -> AsyncIterator[Callable[[], Any]]:
        raise NotImplementedError("a test class gives this fixture")
        yield

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence_writer, "TTL", 30.0)  # a busy machine
        monkeypatch.setattr(presence_writer, "BEAT", 0.2)
        monkeypatch.setattr(presence_writer, "_RETRY", 0.1)

    @pytest.fixture
    async def workers(self, stores: Callable[[], Any]) -> AsyncIterator[Workers]:
        workers = Workers(stores)
        yield workers
        await workers.close()

    async def test_who_is_where(self, workers: Workers) -> None:
        one, two = workers.new("1"), workers.new("2")
        assert await one.list() == []
        async with one.enter("room.lobby", who="ada", door="ssh") as ada:
            assert await two.list("room.*") == [ada] == one.own()
            assert (ada.subject, ada.who, ada.worker) == ("room.lobby", "ada", "1")
            assert ada.about == {"door": "ssh"} and ada.since > 1e9 and ada.host
            again = await two.join("room.lobby", "ada")
            await two.join("room.attic", "bob é ☃")
            await two.join("room", "eve")
            await one.join("room.lobby.corner/a", "joe")
            assert seen(await one.list("room.lobby")) == {
                ("room.lobby", "ada", "1"), ("room.lobby", "ada", "2")}
            assert seen(await one.list("room.*")) == {
                ("room.lobby", "ada", "1"), ("room.lobby", "ada", "2"),
                ("room.attic", "bob é ☃", "2")}
            assert {who for _, who, _ in seen(await one.list("room.>"))} == {
                "ada", "bob é ☃", "joe"}
            assert seen(await two.list("*.lobby.corner/a")) == {
                ("room.lobby.corner/a", "joe", "1")}
            assert len(await two.list()) == 5
            await two.leave(again)
            await two.leave(again)
        assert seen(await two.list("room.lobby")) == set()

    async def test_a_watch_tells_who_is_there_and_then_each_change(
        self, workers: Workers
    ) -> None:
        one, two = workers.new("1"), workers.new("2")
        ada = await one.join("room.a", "ada")
        async with aclosing(two.watch("room.*")) as watch, aclosing(two.watch("room.b")) as other:
            assert await told(watch, 1) == [(True, "ada", "1")]
            await two.join("else", "eve")
            bob = await two.join("room.b", "bob")
            assert await told(watch, 1) == [(True, "bob", "2")] == await told(other, 1)
            await one.leave(ada)
            await two.leave(bob)
            assert await told(watch, 2) == [(False, "ada", "1"), (False, "bob", "2")]
            assert await told(other, 1) == [(False, "bob", "2")]
        late = two.watch(">")
        assert await told(late, 1) == [(True, "eve", "2")]
        await two.close()
        assert await anext(late, None) is None

    async def test_a_worker_that_retires_ends_the_watches_of_its_work(
        self, workers: Workers
    ) -> None:
        """Of two generations: the old one's work ends, its streams and the new one go on."""
        old, new = workers.new("1"), workers.new("2")
        seen: dict[str, list[str]] = {"work": [], "stream": [], "new": []}

        async def follow(presence: ContainerPresence, name: str) -> None:
            async for change in presence.watch("room"):
                seen[name].append(change.entry.who)

        async def until(who: str, *names: str) -> None:
            async with asyncio.timeout(30):
                while not all(who in seen[name] for name in names):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        work, stream, other = (asyncio.ensure_future(follow(presence, name)) for presence, name in (
            (old, "work"), (old, "stream"), (new, "new")))
        await old.join("room", "ada")
        await until("ada", *seen)
        for store in (old, workers.stores["1"]):  # as a worker does
            store.retire(lambda task: task is work)
        await asyncio.wait_for(work, 30)
        await new.join("room", "bob")
        await until("bob", "stream", "new")
        assert seen["work"] == ["ada"]
        old.retire(lambda task: True)
        await asyncio.wait_for(stream, 30)
        assert not other.done()
        await new.close()
        await asyncio.wait_for(other, 30)

    async def test_a_killed_worker_is_gone_and_one_that_closes_at_once(
        self, workers: Workers
    ) -> None:
        one, two, three = (workers.new(name) for name in "123")
        two._writer.ttl = 2.0
        for presence, who in ((one, "ada"), (two, "ada"), (three, "bob")):
            await presence.join("room.a", who)
        async with aclosing(one.watch("room.a")) as watch:
            assert len(await told(watch, 3)) == 3
            await three.close()
            assert await told(watch, 1) == [(False, "bob", "3")]
            await workers.kill("2")
            assert await told(watch, 1) == [(False, "ada", "2")]
            assert seen(await one.list()) == {("room.a", "ada", "1")}
        await one.list()
        assert len([key for key in await workers.stores["1"].items()]) == 2, "it is cleared away"
        assert await workers.new("4").list() == one.own()

    async def test_who_was_stopped_comes_back_though_all_was_cleared_away(
        self, workers: Workers
    ) -> None:
        one, two = workers.new("1"), workers.new("2")
        await one.join("room.a", "ada")
        await two.join("room.a", "bob")
        shared = workers.stores["2"]
        gone = [entry for entry in await shared.items()
                if b"bob" in entry.value or b'"2"' in entry.value]
        for entry in gone:
            await shared.delete(entry.key)
        async with asyncio.timeout(30):
            both = {("room.a", "ada", "1"), ("room.a", "bob", "2")}
            while seen(await one.list("room.a")) != both:  # noqa: ASYNC110 - time makes it so
                await asyncio.sleep(0.01)
        for entry in gone:
            assert (await shared.get(entry.key)).revision > entry.revision

    async def test_ten_thousand_cost_one_write_a_beat(
        self, workers: Workers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, two = workers.new("1"), workers.new("2")
        writes = counted(workers.stores["1"], monkeypatch)
        await asyncio.gather(*(
            one.join(f"room.{number % 10}", f"user {number}") for number in range(10_000)))
        assert len(writes) < 200
        assert len(await two.list()) == 10_000
        assert len(await two.list("room.7")) == 1000
        del writes[:]
        async with asyncio.timeout(30):
            while len(writes) < 3:  # noqa: ASYNC110 - time makes it so
                await asyncio.sleep(0.01)
        assert set(writes) == {f"apihour.presence/by/{one._writer._session}"}
        del writes[:]
        await one.leave(one.own()[5000])
        assert len([key for key in writes if "/at/" in key]) == 1
        assert len(await two.list()) == 9999

    async def test_what_cannot_be_said_is_refused_by_name(self, workers: Workers) -> None:
        one = workers.new("1")
        for subject, who, about, text in (
            ("", "ada", {}, "subject ''"), ("a b", "ada", {}, "without spaces"),
            ("a.*", "ada", {}, "'a.*'"), ("a" * 201, "ada", {}, "201 bytes"),
            ("a", "", {}, "who: ''"), ("a", "a\n", {}, "printable"), ("a", 7, {}, "who: 7"),
            ("a", "é" * 101, {}, "202 bytes"), ("a", "ada", {"x": "y" * 1000}, "1008 bytes"),
            ("a", "ada", {"x": b""}, "JSON"), ("a", "ada", {"x": float("nan")}, "JSON"),
            ("a", "ada", {"x": "\ud800"}, "JSON"),
        ):
            with pytest.raises(PresenceError, match=text):
                await one.join(subject, who, **about)  # type: ignore[arg-type]
        for call in (one.list("a.>.b"), anext(one.watch("a b"))):
            with pytest.raises(PresenceError, match="presence: pattern"):
                await call
        assert one.own() == []

    async def test_the_longest_there_is(self, workers: Workers) -> None:
        one = workers.new("1")
        entry = await one.join("é" * 100, "x" * 200, note="\x00" * 160)
        assert await one.list("é" * 100) == [entry] == await one.list("*")

    async def test_closed(self, workers: Workers) -> None:
        one, two = workers.new("1"), workers.new("2")
        entry = await one.join("a", "ada")
        await one.close()
        await one.close()
        assert await two.list() == []
        await one.leave(entry)
        with pytest.raises(SharedError, match="presence: closed"):
            await one.join("a", "ada")


def counted(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are written from now on."""
    writes: list[str] = []
    for name in ("put", "delete"):
        monkeypatch.setattr(store, name, _counting(getattr(store, name), writes))
    return writes


def _counting(write: Any, writes: list[str]) -> Any:
    def counting(key: str, *args: Any, **named: Any) -> Any:
        writes.append(key)
        return write(key, *args, **named)
    return counting


