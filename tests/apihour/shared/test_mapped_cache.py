"""The cache of the embedded store: torn and doubled entries, its file, several processes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from zlib import crc32

import pytest

from apihour.errors import SharedError, SharedFullError
from apihour.shared import mapped_cache
from apihour.shared import store as store_module
from apihour.shared.mapped_cache import MappedCache
from apihour.shared.store import Shared

Two = tuple[Shared, Shared]


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "runtime").mkdir()
    return tmp_path / "runtime"


@pytest.fixture
async def two(runtime: Path) -> AsyncIterator[Two]:
    found = Shared(runtime / "shared"), Shared(runtime / "shared")
    yield found
    for one in found:
        await one.close()


def pages(two: Two, entries: int = 100, size: int = 100) -> tuple[MappedCache, MappedCache]:
    ours, theirs = (one.cache("pages", entries, size) for one in two)
    return ours, theirs


def files(runtime: Path) -> list[Path]:
    return [path for path in runtime.glob("shared/v1-*/caches/*") if path.is_file()]


async def test_it_is_the_same_for_who_asks_again(two: Two) -> None:
    assert two[0].cache("pages", 100, 100) is two[0].cache("pages", 7, 7)


async def test_a_full_set_loses_what_ends_first(two: Two) -> None:
    ours, theirs = pages(two, entries=4)
    for number in range(4):
        await ours.put(str(number), b"value", ttl=100 - number)
    await theirs.put("new", b"value", ttl=1)
    found = [await ours.get(key) for key in ("0", "1", "2", "3", "new")]
    assert found == [b"value", b"value", b"value", None, b"value"]
    await theirs.delete("0")
    await theirs.put("newer", b"value", ttl=1)  # there is room
    assert await ours.get("new") == b"value"


async def test_any_byte_that_is_not_what_was_written_is_a_miss(two: Two, runtime: Path) -> None:
    ours, theirs = pages(two, entries=4)
    await ours.put("key", b"a value", ttl=60)
    (path,) = files(runtime)
    whole = path.read_bytes()
    start = whole.index(b"keya value") - 14
    assert await theirs.get("key") == b"a value"
    for place in range(start, start + 14 + 10):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([whole[place] ^ 0x41]))
            file.flush()
            assert await theirs.get("key") is None, place - start
            file.seek(place)
            file.write(whole[place:place + 1])
    assert await theirs.get("key") == b"a value"


async def test_what_two_wrote_at_once_is_one_after_the_next_write(two: Two) -> None:
    ours, theirs = pages(two, entries=4)
    await ours.put("key", b"1", ttl=60)
    words = ours._words
    at = next(way for way in range(4) if words[way])
    size = ours._pitch
    start, other = ours._entries + at * size, ours._entries + (at + 1) % 4 * size
    ours._map[other:other + size] = ours._map[start:start + size]
    words[(at + 1) % 4] = words[at]
    await theirs.put("key", b"2", ttl=60)
    assert sum(map(bool, words[:4])) == 1
    assert await ours.get("key") == b"2"
    words[(at + 1) % 4] = words[at]  # and who deletes deletes both
    await theirs.delete("key")
    assert await ours.get("key") is None
    assert not any(words[:4])


async def test_who_was_stopped_before_the_last_step_brings_back_nothing_over_its_time(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pages(two, entries=4)
    await ours.put("key", b"1", ttl=0.05)
    at = next(way for way in range(4) if ours._words[way])
    word = ours._words[at]
    await theirs.delete("key")
    now = mapped_cache.time.monotonic()
    monkeypatch.setattr(mapped_cache.time, "monotonic", lambda: now + 0.06)
    ours._words[at] = word
    assert await theirs.get("key") is None


async def test_who_was_stopped_before_the_last_step_brings_back_nobody_elses(two: Two) -> None:
    ours, theirs = pages(two, entries=4)
    await ours.put("key", b"1", ttl=60)
    at = next(way for way in range(4) if ours._words[way])
    word = ours._words[at]
    await theirs.put("key", b"2", ttl=60)
    await theirs.delete("key")
    ours._words[at] = word
    assert await theirs.get("key") is None


async def test_a_key_whose_hash_is_nothing_is_deleted_as_any(two: Two) -> None:
    ours, theirs = pages(two)
    key = "ZKjafYM"
    assert crc32(key.encode()) == 0
    await ours.put(key, b"value", ttl=60)
    assert await theirs.get(key) == b"value"
    await theirs.delete(key)
    assert await ours.get(key) is None


async def test_keys_of_one_hash_have_one_place_and_never_each_others_value(two: Two) -> None:
    ours, theirs = pages(two)
    assert crc32(b"gnyijstj") == crc32(b"etislvlf")
    await ours.put("gnyijstj", b"1", ttl=60)
    assert await theirs.get("etislvlf") is None
    await theirs.put("etislvlf", b"2", ttl=60)
    assert (await ours.get("gnyijstj"), await ours.get("etislvlf")) == (None, b"2")


async def test_the_first_says_how_large_it_is(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    ours = two[0].cache("pages", 10, 100)
    assert not caplog.records
    theirs = two[1].cache("pages", 1000, 500)
    assert caplog.messages == [
        "cache 'pages': 12 entries of 100 bytes, as its first worker asked; 1000 of 500 take "
        "effect when the daemon starts again"]
    assert (ours.size, theirs.size) == (100, 100)
    assert await theirs.put("key", b"x" * 98, ttl=60) is False
    await theirs.put("key", b"x" * 97, ttl=60)
    assert await ours.get("key") == b"x" * 97


@pytest.mark.parametrize("content", [b"", b"apihour cache 2\n" + bytes(10_000),
                                     b"apihour cache 1\n" + bytes(10_000),
                                     b"apihour cache 1\n\1\0\0\0\x64\0\0"])
async def test_another_versions_file_is_refused(two: Two, runtime: Path, content: bytes) -> None:
    two[0].cache("other", 4, 10)
    (path,) = files(runtime)
    path.with_name("pages").write_bytes(content)
    with pytest.raises(SharedError, match=r"cache 'pages': its file begins with .* expected what"):
        two[0].cache("pages", 4, 100)


async def test_no_memory(two: Two, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped_cache, "reserve", full)
    with pytest.raises(
        SharedFullError, match=r"^cache 'pages': .*No space left .* for 4584 bytes: .*/pages'$"
    ):
        two[0].cache("pages", 4, 100)
    assert files(runtime) == []
    assert list(runtime.glob("shared/v1-*/tmp/*")) == []


async def test_all_its_memory_is_taken_when_it_is_made(two: Two, runtime: Path) -> None:
    pages(two, entries=1000, size=1000)
    (path,) = files(runtime)
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 1_000_000
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("length", [24, 4096, 5000])
async def test_a_file_without_all_its_memory_is_given_it(
    two: Two, runtime: Path, length: int
) -> None:
    two[0].cache("other", 4, 10_000)
    (path,) = files(runtime)
    path.with_name("pages").write_bytes(path.read_bytes()[:length])  # its maker was killed
    ours = two[0].cache("pages", 4, 10_000)
    found = path.with_name("pages").stat()
    assert found.st_blocks * 512 >= found.st_size == path.stat().st_size
    await ours.put("key", b"value", ttl=60)
    assert await two[1].cache("pages", 4, 10_000).get("key") == b"value"


async def test_workers_that_start_together_take_its_memory_once(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = set()

    def together(fd: int, size: int) -> None:
        taken.add(os.fstat(fd).st_ino)
        if len(calls) < 2:
            calls.append(size)
            pages((two[1], two[0]))
        original(fd, size)

    calls: list[int] = []
    original = mapped_cache.reserve
    monkeypatch.setattr(mapped_cache, "reserve", together)
    pages(two)
    assert (len(taken), len(calls)) == (1, 2)


async def test_who_makes_it_second_takes_the_first(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[MappedCache] = []

    def slow(fd: int, size: int) -> None:
        monkeypatch.setattr(mapped_cache, "reserve", original)
        found.append(two[1].cache("pages", 8, 100))
        original(fd, size)

    original = mapped_cache.reserve
    monkeypatch.setattr(mapped_cache, "reserve", slow)
    ours = two[0].cache("pages", 4, 100)
    await ours.put("key", b"value", ttl=60)
    assert await found[0].get("key") == b"value"


async def test_one_that_vanished_is_made_again(
    two: Two, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pages(two)
    await ours.put("key", b"1", ttl=60)
    monkeypatch.setattr(mapped_cache, "_LOOK", 0.0)
    monkeypatch.setattr(store_module, "LOOK", 0.0)
    for store, cache in zip(two, (ours, theirs), strict=True):
        cache._next_look = store._next_look = 0.0
    shutil.rmtree(runtime)
    assert await ours.get("key") == b"1"  # nobody has another
    assert not runtime.exists(), "the directory is the arbiter's to make"
    runtime.mkdir()
    assert await ours.get("key") is None
    await theirs.put("key", b"2", ttl=60)
    assert await ours.get("key") == b"2"


async def test_no_use_after_its_store_is_closed(two: Two) -> None:
    ours, theirs = pages(two)
    await two[0].close()
    for call in (ours.get("a"), ours.put("a", b"", 1), ours.delete("a")):
        with pytest.raises(SharedError, match="closed"):
            await call
    with pytest.raises(SharedError, match="closed"):
        two[0].cache("more", 1, 1)
    assert await theirs.get("a") is None


WRITER = """
import asyncio, random, sys, time
from apihour.shared.store import Shared

async def main():
    store = Shared(sys.argv[1])
    cache = store.cache("pages", 8, 3000)
    ends, wrong = time.monotonic() + float(sys.argv[2]), 0
    hits = 0
    while time.monotonic() < ends:
        key = str(random.randrange(12))
        await cache.put(key, key.encode() * random.randrange(1, 1400), 60)
        key = str(random.randrange(12))
        value = await cache.get(key)
        if value is not None:
            hits += 1
            wrong += value != key.encode() * (len(value) // len(key))
    print(hits, wrong)
    await store.close()

asyncio.run(main())
"""


def test_processes_that_write_at_once_never_read_what_nobody_wrote(runtime: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, runtime / "shared", "1"],
                                stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for writer in writers:
        hits, wrong = map(int, writer.communicate(timeout=120)[0].split())
        assert hits > 100
        assert wrong == 0
