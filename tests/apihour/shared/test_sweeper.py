"""The sweeper of the shared store: what dies is freed as fast as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from apihour.shared import file_store, records
from apihour.shared.file_store import FileStore
from apihour.shared.records import BUCKETS, RecordHead, bucket_of, cost_of
from apihour.shared.store import Shared
from apihour.shared.sweeper import BUSY, CALM, FEW, GRACE, PRESSED, Sweeper

FLEETING = 0.2  # seconds that a cached value lives


class Time:
    """The store's clock and the sweeper's, as this says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        for module in (file_store, records):
            monkeypatch.setattr(module, "clock", lambda: self.milliseconds)
        for module in ("store", "sweeper"):
            monkeypatch.setattr(f"apihour.shared.{module}.time.monotonic", lambda: self.seconds)

    @property
    def milliseconds(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def test_a_cache_of_keys_that_never_come_back_does_not_fill_the_store(
    tmp_path: Path, time: Time
) -> None:
    """Ten seconds of them would not fit: 100 a second, and room for 400."""
    shared = Shared(tmp_path / "store", limit_bytes=400 * cost_of(1))
    most = 0
    for number in range(1_500):
        await shared.put(f"page/{number}", b"x", ttl=FLEETING)
        time.seconds += 1 / 100
        most = max(most, shared.statistics().used_bytes)
    await shared.close()
    assert most <= 350 * cost_of(1)


def test_it_looks_once_for_all_that_it_forgets(
    tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, found = FileStore(tmp_path / "store"), 0
    for number in range(BUCKETS * 3 * FEW):
        key = b"key%d" % number
        if bucket_of(key) == 7:
            store.swap(store.read(key), b"1", time.milliseconds + 1)
            found += 1
    looked, look = [], FileStore.dead

    def dead(self: FileStore, bucket: int, grace: int) -> list[RecordHead]:
        looked.append(bucket)
        return look(self, bucket, grace)

    monkeypatch.setattr(FileStore, "dead", dead)
    time.seconds += GRACE / 1000 + 1
    sweeping, turns = Sweeper(6), 0
    while store.used():
        sweeping.sweep_sometimes(store, 64_000_000)
        turns += 1
    assert looked == [7] and turns == -(-found // FEW) > 1
    store.close()


@pytest.mark.parametrize(("limit", "kept"), [(64_000_000, GRACE), (2 * cost_of(1), PRESSED)])
def test_what_is_dead_is_kept_shorter_while_most_of_the_store_is_in_use(
    tmp_path: Path, time: Time, limit: int, kept: int
) -> None:
    store, other = FileStore(tmp_path / "store"), FileStore(tmp_path / "store")
    for one in (b"key", b"other"):
        store.swap(store.read(one), b"1", time.milliseconds + 1 if one == b"key" else 0)
    time.seconds += kept / 1000
    sweeping = Sweeper(bucket_of(b"key") - 1)
    sweeping.sweep_sometimes(store, limit)
    assert store.used() == 2 * cost_of(1)
    time.seconds += 0.01
    again = Sweeper(bucket_of(b"key") - 1)
    again.sweep_sometimes(other, limit)
    assert store.used() == cost_of(1)
    store.close()
    other.close()


@pytest.mark.parametrize(("limit", "share"), [(64_000_000, CALM), (1, BUSY)])
def test_it_rests_longer_than_it_worked(
    tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch, limit: int, share: int
) -> None:
    store = FileStore(tmp_path / "store")
    store.swap(store.read(b"key"), b"1", time.milliseconds + 1)
    time.seconds += GRACE / 1000 + 1
    looked, look = [], FileStore.dead

    def dead(self: FileStore, bucket: int, grace: int) -> list[RecordHead]:
        looked.append(bucket)
        time.seconds += 0.002
        return look(self, bucket, grace)

    monkeypatch.setattr(FileStore, "dead", dead)
    sweeping = Sweeper(bucket_of(b"key") - 1)
    sweeping.sweep_sometimes(store, limit)
    time.seconds += 0.002 * share - 0.001
    sweeping.sweep_sometimes(store, limit)
    assert looked == [bucket_of(b"key")] and not store.used()
    time.seconds += 0.002
    sweeping.sweep_sometimes(store, limit)
    assert looked == [bucket_of(b"key"), (bucket_of(b"key") + 1) % BUCKETS]
    store.close()
