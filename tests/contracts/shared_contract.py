"""What every backend of ``container.shared`` must do, as tests to inherit.

A backend's author subclasses :class:`SharedContract` in a test module that has two fixtures::

    @pytest.fixture
    async def shared(): ...              # an empty store
    @pytest.fixture
    async def another(shared): ...       # a second client of the same store

    class TestRedis(SharedContract):
        pass
"""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apihour.errors import RevisionError, SharedDownError, SharedError
from apihour.shared.store import Change, Entry, SharedBackend


async def take(watch: AsyncIterator[Change], number: int) -> list[Change]:
    """The next `number` changes of a watch."""
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(number)]


async def wait_gone(shared: SharedBackend, key: str) -> None:
    """Return when `key` has expired."""
    async with asyncio.timeout(10):
        while await shared.get(key) is not None:  # noqa: ASYNC110 - time makes it so
            await asyncio.sleep(0.01)


class SharedContract:
    """The tests. `ttl` is the shortest time to live, in seconds, that the backend can do."""

    ttl = 0.2

    async def test_absent(self, shared: SharedBackend) -> None:
        assert await shared.get("nothing") is None
        assert await shared.delete("nothing") is False
        assert await shared.items() == []

    @pytest.mark.parametrize("size", [0, 1, 100, 150, 151, 4096, 1_000_000])
    async def test_values_of_every_size(
        self, shared: SharedBackend, another: SharedBackend, size: int
    ) -> None:
        value = bytes(range(256)) * (size // 256 + 1)
        revision = await shared.put("key", value[:size])
        assert await another.get("key") == Entry("key", value[:size], revision)

    async def test_too_large(self, shared: SharedBackend) -> None:
        with pytest.raises(SharedError, match=r"'key'.*1000001"):
            await shared.put("key", b"x" * 1_000_001)
        assert await shared.get("key") is None

    async def test_text_is_no_value(self, shared: SharedBackend) -> None:
        with pytest.raises(SharedError, match="expected bytes"):
            await shared.put("key", "text")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "key", ["a", ".", "..", ".a", "a/b", "/a", "a//b/", "été ☃", "k" * 240, "a b%2F\\*"]
    )
    async def test_keys(self, shared: SharedBackend, another: SharedBackend, key: str) -> None:
        revision = await shared.put(key, b"value")
        assert await another.items() == [Entry(key, b"value", revision)]
        assert await another.delete(key) is True

    @pytest.mark.parametrize("key", ["", "k" * 241, "a\nb", "\0", "\x01", "é" * 121, "\ud800"])
    async def test_bad_keys(self, shared: SharedBackend, key: str) -> None:
        for operation in (shared.get(key), shared.put(key, b""), shared.delete(key)):
            with pytest.raises(SharedError, match="key"):
                await operation

    async def test_revisions_grow(self, shared: SharedBackend, another: SharedBackend) -> None:
        first = await shared.put("key", b"1")
        second = await another.put("key", b"1")
        assert 0 < first < second
        await shared.delete("key")
        assert await another.put("key", b"1", expected_revision=0) > second

    async def test_revisions_grow_after_expiry(self, shared: SharedBackend) -> None:
        first = await shared.put("key", b"1", ttl=self.ttl)
        await wait_gone(shared, "key")
        assert await shared.put("key", b"1", expected_revision=0) > first

    async def test_compare_and_set(self, shared: SharedBackend, another: SharedBackend) -> None:
        first = await shared.put("key", b"1", expected_revision=0)
        with pytest.raises(RevisionError) as refused:
            await another.put("key", b"2", expected_revision=0)
        assert (refused.value.key, refused.value.expected) == ("key", 0)
        second = await another.put("key", b"2", expected_revision=first)
        for stale in (0, first, second + 1):
            with pytest.raises(RevisionError):
                await shared.put("key", b"3", expected_revision=stale)
            with pytest.raises(RevisionError):
                await shared.delete("key", expected_revision=stale)
        assert await shared.get("key") == Entry("key", b"2", second)
        assert await shared.delete("key", expected_revision=second) is True
        with pytest.raises(RevisionError):
            await shared.put("key", b"3", expected_revision=second)

    async def test_expiry(self, shared: SharedBackend, another: SharedBackend) -> None:
        await shared.put("short", b"1", ttl=self.ttl)
        await shared.put("kept", b"1", ttl=self.ttl)
        await shared.put("kept", b"2")
        assert await another.get("short") is not None
        await wait_gone(another, "short")
        assert [entry.key for entry in await shared.items()] == ["kept"]
        assert await shared.delete("short") is False

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "1", True, {}])
    async def test_bad_ttl(self, shared: SharedBackend, ttl: Any) -> None:
        for call in (shared.put("key", b"", ttl=ttl), shared.incr("key", ttl=ttl),
                     shared.append("key", b"", ttl=ttl),
                     shared.update("key", lambda value: b"", ttl=ttl)):
            with pytest.raises(SharedError, match=r"ttl .*, expected seconds above 0"):
                await call
        assert await shared.get("key") is None

    async def test_items_by_prefix(self, shared: SharedBackend) -> None:
        for key in ("b/2", "a/1", "b/1", "b", "c"):
            await shared.put(key, key.encode())
        await shared.delete("c")
        assert [entry.value for entry in await shared.items("b/")] == [b"b/1", b"b/2"]
        assert [entry.key for entry in await shared.items()] == ["a/1", "b", "b/1", "b/2"]

    async def test_items_miss_nothing_that_is_written_again(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        async def write(key: str) -> None:
            while not looked:
                await shared.put(key, b"1", ttl=100)
                await asyncio.sleep(0.001)

        looked = False
        keys = ["x/1", "x/2", "y"]
        writing = [asyncio.ensure_future(write(key)) for key in keys]
        for key in keys:
            await another.put(key, b"0")
        for _ in range(150):
            assert [entry.key for entry in await another.items("x/")] == keys[:2]
        looked = True
        await asyncio.gather(*writing)

    async def test_increment(self, shared: SharedBackend, another: SharedBackend) -> None:
        assert await shared.incr("n") == 1
        assert await another.incr("n", 41) == 42
        assert await shared.incr("n", -50) == -8
        entry = await shared.get("n")
        assert entry is not None and entry.value == b"-8"
        await shared.put("n", b"text")
        with pytest.raises(SharedError, match="'n'"):
            await shared.incr("n")

    async def test_append(self, shared: SharedBackend, another: SharedBackend) -> None:
        first = await shared.append("log", b"one\n")
        assert await another.append("log", b"two\n" * 1000) > first
        entry = await shared.get("log")
        assert entry is not None and entry.value == b"one\n" + b"two\n" * 1000

    async def test_update(self, shared: SharedBackend) -> None:
        entry = await shared.update("key", lambda value: b"%r" % value)
        assert entry == Entry("key", b"None", entry.revision) == await shared.get("key")
        with pytest.raises(ZeroDivisionError):
            await shared.update("key", lambda value: b"%d" % (1 // 0))
        assert await shared.get("key") == entry

    async def test_no_increment_is_lost(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        async def add(client: SharedBackend) -> None:
            for _ in range(50):
                await client.incr("n")
                await asyncio.sleep(0)
        await asyncio.gather(*(add(client) for client in (shared, another) * 4))
        assert await shared.incr("n", 0) == 400

    async def test_watch(self, shared: SharedBackend, another: SharedBackend) -> None:
        await shared.put("a/1", b"old")
        await shared.put("b", b"other")
        watch = another.watch("a/")
        assert [(c.key, c.value) for c in await take(watch, 1)] == [("a/1", b"old")]
        revision = await shared.put("a/2", b"x" * 5000)
        assert await take(watch, 1) == [Change("a/2", b"x" * 5000, revision)]
        await shared.put("b", b"unseen")
        await shared.delete("a/1")
        [gone] = await take(watch, 1)
        assert (gone.key, gone.value) == ("a/1", None)
        assert await shared.put("a/1", b"new") > gone.revision
        assert [(c.key, c.value) for c in await take(watch, 1)] == [("a/1", b"new")]

    async def test_watch_sees_expiry(self, shared: SharedBackend, another: SharedBackend) -> None:
        watch = another.watch()
        await shared.put("short", b"1", ttl=self.ttl)
        assert [c.value for c in await take(watch, 2)] == [b"1", None]

    async def test_watch_coalesces(self, shared: SharedBackend, another: SharedBackend) -> None:
        watch = another.watch()
        await shared.put("key", b"first")
        await take(watch, 1)
        for number in range(100):
            await shared.put("key", b"%d" % number)
        await shared.put("end", b"")
        seen = []
        async with asyncio.timeout(10):
            async for change in watch:
                seen.append((change.key, change.value))
                if ("end", b"") in seen and ("key", b"99") in seen:
                    break
        assert len(seen) < 50

    async def test_watch_ends_with_its_client(self, another: SharedBackend) -> None:
        watch = another.watch()
        waiting = asyncio.ensure_future(anext(watch, None))
        await asyncio.sleep(0)
        await another.close()
        assert await asyncio.wait_for(waiting, 10) is None

    async def test_a_worker_that_retires_ends_the_watches_of_its_work(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        """Of two generations: the old one's work ends, its streams and the new one go on."""
        async def follow(store: SharedBackend, seen: list[bytes | None]) -> None:
            async for change in store.watch("a/"):
                seen.append(change.value)

        async def until(value: bytes, *lists: list[bytes | None]) -> None:
            async with asyncio.timeout(30):
                while not all(value in one for one in lists):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        work, stream, new = list[bytes | None](), list[bytes | None](), list[bytes | None]()
        tasks = [asyncio.ensure_future(follow(store, seen)) for store, seen in (
            (another, work), (another, stream), (shared, new))]
        await shared.put("a/1", b"first")
        await until(b"first", work, stream, new)
        another.retire(lambda task: task is tasks[0])
        await asyncio.wait_for(tasks[0], 30)
        await another.put("a/1", b"last")  # the store serves on
        await until(b"last", stream, new)
        assert work == [b"first"]
        another.retire(lambda task: True)
        await asyncio.wait_for(tasks[1], 30)
        assert not tasks[2].done()
        await shared.close()
        await asyncio.wait_for(tasks[2], 30)

    async def test_cache(self, shared: SharedBackend, another: SharedBackend) -> None:
        ours, theirs = (one.cache("pages", 100, 1000) for one in (shared, another))
        assert await ours.get("a") is None
        assert await ours.put("a", b"1", ttl=60) is True
        assert await theirs.get("a") == b"1"
        assert await theirs.put("a", b"\0" * 900, ttl=60) is True
        assert await ours.get("a") == b"\0" * 900
        assert await shared.cache("other", 100, 1000).get("a") is None
        await theirs.delete("a")
        await theirs.delete("a")
        assert await ours.get("a") is None

    async def test_cache_forgets_in_time(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        ours, theirs = (one.cache("pages", 100, 1000) for one in (shared, another))
        await ours.put("a", b"1", ttl=60)
        await ours.put("a", b"2", ttl=self.ttl)
        assert await theirs.get("a") == b"2"
        async with asyncio.timeout(10):
            while await theirs.get("a") is not None:  # noqa: ASYNC110 - time makes it so
                await asyncio.sleep(0.01)

    async def test_cache_does_not_keep_what_is_too_large(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        ours, theirs = (one.cache("pages", 100, 1000) for one in (shared, another))
        assert await ours.put("key", b"x" * 997, ttl=60) is True
        assert await theirs.put("key", b"x" * 998, ttl=60) is False
        assert await ours.get("key") is None
        await ours.put("key", b"1", ttl=60)
        assert await theirs.put("key", b"x" * 1_000_001, ttl=60) is False
        assert await ours.get("key") is None

    async def test_cache_has_keys_as_long_in_any_store(
        self, shared: SharedBackend, another: SharedBackend
    ) -> None:
        ours, theirs = (one.cache("pages", 100, 1000) for one in (shared, another))
        await ours.put("k" * 228, b"1", ttl=60)
        assert await theirs.get("k" * 228) == b"1"
        for call in (ours.get("k" * 229), ours.put("k" * 229, b"", 1), ours.delete("k" * 229)):
            with pytest.raises(SharedError, match="229 bytes, expected at most 228"):
                await call

    async def test_cache_refuses(self, shared: SharedBackend) -> None:
        cache = shared.cache("pages", 100, 1000)
        for bad in ("", "a\nb", "k" * 241):
            for call in (cache.get(bad), cache.put(bad, b"", 1), cache.delete(bad)):
                with pytest.raises(SharedError, match="key"):
                    await call
        for told in (cache.get("\n" * 100_000), cache.put("k" * 100_000, None, 1)):  # type: ignore[arg-type]
            with pytest.raises(SharedError) as refused:
                await told
            assert len(str(refused.value)) < 400
        for ttl in (0, -1, math.nan, math.inf, True, "1", None):
            with pytest.raises(SharedError, match=f"ttl {ttl!r}|no ttl"):
                await cache.put("key", b"", ttl=ttl)  # type: ignore[arg-type]
        with pytest.raises(SharedError, match="expected bytes"):
            await cache.put("key", "text", ttl=1)  # type: ignore[arg-type]
        for entries, size in ((0, 1), (1, 0), (-1, -1), (1, 1_000_001), (1_000_000, 1_000_000),
                              (1 << 29, 1), (1.5, 10), (10, 1.5), ("9", 9), (True, 9), (9, None)):
            with pytest.raises(SharedError, match=f"'pages': {entries!r} entries of {size!r} "):
                shared.cache("pages", entries, size)  # type: ignore[arg-type]
        for name in ("", "a/b", "..\0", "n" * 101, None, ["a"]):
            with pytest.raises(SharedError, match=r"without a slash|expected "):
                shared.cache(name, 100, 1000)  # type: ignore[arg-type]
        await shared.cache("..", 100, 1000).put("key", b"1", ttl=60)
        assert await shared.cache(".", 100, 1000).get("key") is None

    async def test_closed(self, shared: SharedBackend, another: SharedBackend) -> None:
        await shared.put("key", b"stays")
        await shared.close()
        await shared.close()
        with pytest.raises(SharedError, match="closed"):
            await shared.get("key")
        assert await another.get("key") is not None


class RemoteContract:
    """What a store in another program does besides; a third fixture is ``server``, its program.

    `clients` makes more of them: ``clients(deadline=0.3)``; the test closes them.
    """

    async def test_calls_end_in_time_while_it_is_away_and_watches_come_back(
        self, caplog: pytest.LogCaptureFixture, shared: SharedBackend, server: Any,
        clients: Callable[..., SharedBackend],
    ) -> None:
        quick, patient = clients(deadline=0.3), clients(deadline=30)
        await shared.put("a", b"1")
        await shared.put("b", b"1")
        assert await quick.get("a") is not None
        watch = shared.watch()
        assert sorted(c.key for c in await take(watch, 2)) == ["a", "b"]
        server.freeze()
        began = time.monotonic()
        with pytest.raises(SharedDownError):
            await quick.get("a")
        assert time.monotonic() - began < 10
        server.thaw()
        server.halt(signal.SIGKILL)
        for call in (quick.put("a", b"2"), quick.incr("n"), quick.items(), quick.delete("a")):
            with pytest.raises(SharedDownError):
                await call
        server.start()  # which may keep nothing
        async with asyncio.timeout(30):
            while True:
                try:
                    await patient.put("a", b"2")
                    break
                except SharedDownError:
                    await asyncio.sleep(0.05)
        await patient.delete("b")
        seen: dict[str, bytes | None] = {}
        while seen.get("a") != b"2" or seen.get("b", b"") is not None:
            [change] = await take(watch, 1)
            seen[change.key] = change.value
        assert "away: " in caplog.text
        await quick.close()
        await patient.close()
