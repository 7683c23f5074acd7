"""The heads that a process of the shared store remembers: what another does counts all the same."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from apihour.errors import RevisionError
from apihour.shared import last_heads
from apihour.shared.file_store import FileStore
from apihour.shared.last_heads import LastHeads
from apihour.shared.records import RecordHead, bucket_of, clock
from apihour.shared.store import Shared


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[FileStore, FileStore]]:
    one, two = FileStore(tmp_path / "store"), FileStore(tmp_path / "store")
    yield one, two
    one.close()
    two.close()


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Shared, Shared]]:
    one, two = Shared(tmp_path / "store"), Shared(tmp_path / "store")
    yield one, two
    await one.close()
    await two.close()


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The directories that were listed."""
    found, listdir = [], os.listdir

    def counted(path: bytes) -> list[bytes]:
        found.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    return found


def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_heads, "_HALF", 10)
    heads = LastHeads()
    for number in range(100):
        heads.saw(b"%d" % number, RecordHead(b"/%d" % number, revision=number))
        assert len(heads) < 20
    assert heads.get(b"99") == RecordHead(b"/99", revision=99)
    assert heads.get(b"79") is None
    heads.lost(b"99")
    assert heads.get(b"99") is None


async def test_no_directory_is_listed_for_a_key_that_was_seen(
    both: tuple[Shared, Shared], listings: list[object]
) -> None:
    shared, _ = both
    await shared.put("key", b"1")
    listings.clear()
    revision = await shared.put("key", b"2")
    entry = await shared.get("key")
    assert entry is not None and (entry.value, entry.revision) == (b"2", revision)
    await shared.put("key", b"3", expected_revision=revision)
    assert await shared.delete("key") and not await shared.delete("key")
    assert await shared.get("key") is None
    assert [path for path in listings if bytes(path).endswith(b"/key")] == []


async def test_what_another_wrote_is_read(both: tuple[Shared, Shared]) -> None:
    one, two = both
    for value in (b"small", b"x" * 1000, b"again"):
        first = await one.put("key", value)
        assert await two.get("key") == await one.get("key")
        second = await two.put("key", value + b"!")
        entry = await one.get("key")
        assert entry is not None and (entry.value, entry.revision) == (value + b"!", second)
        with pytest.raises(RevisionError):
            await one.put("key", b"", expected_revision=first)
        assert await one.put("key", b"over", expected_revision=second) > second
        assert await two.put("key", b"over that") > second + 1
        assert await one.delete("key")
        assert await two.get("key") is None and not await two.delete("key")
        await two.put("key", b"back", expected_revision=0)
        with pytest.raises(RevisionError):
            await one.put("key", b"", expected_revision=0)


def test_a_stale_one_replaces_nothing(pair: tuple[FileStore, FileStore]) -> None:
    one, two = pair
    one.swap(one.read(b"key"), b"1")
    last = two.swap(two.read(b"key"), b"2")
    stale = one.glance(b"key")
    assert one.value(stale) == b"1" and one.swap(stale, b"3") == 0
    assert one.glance(b"key").revision == last
    assert one.swap(one.glance(b"key"), b"3") == last + 1


def test_a_small_value_goes_over_another(pair: tuple[FileStore, FileStore]) -> None:
    one, two = pair
    assert one.overwrite(b"key", b"1", 0) == 0, "nothing was seen of it"
    last = one.swap(one.read(b"key"), b"1")
    for value in (b"a/b", b"\0\x01\x01a", b"x" * 150, b"/" * 150, b""):
        last += 1
        assert one.overwrite(b"key", value, 0) == last
        assert two.value(two.read(b"key")) == value and two.read(b"key").revision == last
    assert one.overwrite(b"key", b"x" * 1000, 0) == 0
    assert two.swap(two.read(b"key"), b"x" * 1000) == last + 1
    assert two.overwrite(b"key", b"1", 0) == 0, "its blob would stay"
    assert one.overwrite(b"key", b"late", 0) == 0
    assert one.value(one.read(b"key")) == b"x" * 1000


def test_the_bucket_has_got_another_floor(pair: tuple[FileStore, FileStore]) -> None:
    """The key is where its bucket is now, and what was said to be absent is so no more."""
    one, two = pair
    names = (b"n%d" % number for number in range(5000))
    others = [name for name in names if bucket_of(name) == bucket_of(b"key")]
    one.swap(one.read(b"key"), b"1")
    absent = one.read(others[0])
    for _ in range(3):
        two.swap(two.read(others[1]), b"1", clock() - 100)
    gone = one.glance(others[1])
    two.forget(bucket_of(b"key"), two.dead(bucket_of(b"key"), 0))
    assert one.swap(absent, b"1") == 0, "its revision would be below the floor"
    assert one.swap(gone, b"1") == 0
    assert one.read(others[1]).name == b"" and one.read(b"key").alive
    assert one.swap(one.glance(b"key"), b"2") == two.read(b"key").revision
    assert one.swap(one.glance(others[1]), b"1") > gone.revision
