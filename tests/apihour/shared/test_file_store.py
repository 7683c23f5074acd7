"""The files of the shared store: what must hold when a process halts between two calls."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apihour.errors import SharedError
from apihour.shared import file_store, records
from apihour.shared.file_store import FileStore
from apihour.shared.records import BUCKETS, RecordHead, bucket_of, clock, cost_of
from apihour.shared.sweeper import GRACE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], FileStore]]:
    stores: list[FileStore] = []

    def open_store() -> FileStore:
        stores.append(FileStore(path))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let `seconds` pass."""
    def move(seconds: float) -> None:
        now = clock() + int(seconds * 1000)
        for module in (file_store, records):
            monkeypatch.setattr(module, "clock", lambda: now)
    return move


def sweep(store: FileStore) -> None:
    for bucket in range(BUCKETS):
        forget(store, bucket)


def forget(store: FileStore, bucket: int, grace: int = GRACE) -> None:
    if dead := store.dead(bucket, grace):
        store.forget(bucket, dead)


def heads(store: FileStore) -> list[RecordHead]:
    return [head for bucket in range(BUCKETS) for head in store.scan(bucket)]


def test_a_head_swaps_once(opened: Callable[[], FileStore]) -> None:
    one, two = opened(), opened()
    absent = one.read(b"key")
    assert one.swap(absent, b"1") == absent.revision + 1
    assert two.swap(absent, b"2") == 0
    head = two.read(b"key")
    assert one.swap(head, b"3") == absent.revision + 2
    assert two.swap(head, b"x" * 1000) == 0
    assert two.value(two.read(b"key")) == b"3"
    assert sum(len(two._blobs(bucket)) for bucket in range(BUCKETS)) == 0


def test_the_value_of_a_replaced_blob_is_gone(opened: Callable[[], FileStore]) -> None:
    store = opened()
    store.swap(store.read(b"key"), b"x" * 1000)
    head = store.read(b"key")
    store.swap(head, b"y" * 1000)
    assert store.value(head) is None


def test_dead_entries_are_forgotten(
    opened: Callable[[], FileStore], later: Callable[[float], None]
) -> None:
    store = opened()
    for number in range(20):
        key = b"key%d" % number
        store.swap(store.read(key), b"x" * (number * 50), clock() + number % 2)
    for number in range(0, 20, 4):
        store.swap(store.read(b"key%d" % number), None)
    store.swap(store.read(b"kept"), b"x" * 1000)
    later(5)
    sweep(store)
    assert len(heads(store)) == 21  # a moment of grace
    later(GRACE / 1000 + 5)
    sweep(store)
    assert [head.key for head in heads(store)] == [b"kept"]
    assert store.used() == cost_of(1000)


def test_a_writer_that_slept_through_a_sweep_cannot_go_back(
    opened: Callable[[], FileStore], later: Callable[[float], None]
) -> None:
    """It saw the key absent; the key came, went and was forgotten; its revision is too low."""
    sleeper, other = opened(), opened()
    absent = sleeper.read(b"key")
    for _ in range(3):
        last = other.swap(other.read(b"key"), b"1")
    last = other.swap(other.read(b"key"), None)
    later(60)
    sweep(other)
    assert heads(other) == []
    assert sleeper.swap(absent, b"late") == 0
    assert sleeper.swap(sleeper.read(b"key"), b"late") > last


def test_a_writer_that_slept_after_a_sweep_of_its_bucket(
    opened: Callable[[], FileStore], later: Callable[[float], None]
) -> None:
    sleeper, other = opened(), opened()
    sleeper.swap(sleeper.read(b"key"), b"1")
    neighbour = next(
        key for key in (b"n%d" % n for n in range(10_000)) if bucket_of(key) == bucket_of(b"key")
    )
    other.swap(other.read(neighbour), b"1")
    other.swap(other.read(neighbour), None)
    head = sleeper.read(b"key")
    later(60)
    sweep(other)
    assert sleeper.swap(head, b"2") == 0  # the way to it has moved, the key is as it was
    assert sleeper.swap(sleeper.read(b"key"), b"2") == head.revision + 1
    assert sleeper.read(neighbour).alive is False


def test_orphaned_blobs_are_swept(opened: Callable[[], FileStore]) -> None:
    store, other = opened(), opened()
    bucket = bucket_of(b"key")
    name, fd = store._write_blob(bucket, b"x" * 1000)
    sweep(other)
    assert other._blobs(bucket) == {name}  # its writer has not finished
    os.close(fd)  # as when the writer is killed
    sweep(other)
    assert other._blobs(bucket) == set()


def test_blobs_in_use_are_not_swept(opened: Callable[[], FileStore]) -> None:
    store, other = opened(), opened()
    store.swap(store.read(b"key"), b"x" * 1000)
    other._sweep_blobs(bucket_of(b"key"), other._blobs(bucket_of(b"key")))
    assert other.value(other.read(b"key")) == b"x" * 1000


def test_what_a_killed_writer_prepared_is_removed(
    opened: Callable[[], FileStore], path: Path
) -> None:
    store = opened()
    prepared = Path(os.fsdecode(store._path(b"tmp", b"left")))
    prepared.mkdir()
    fresh = Path(os.fsdecode(store._path(b"tmp", b"fresh")))
    fresh.mkdir()
    os.utime(prepared, (0, 0))
    opened()
    assert not prepared.exists() and fresh.exists()


def test_an_emptied_key_is_absent_and_removed(opened: Callable[[], FileStore]) -> None:
    """A sweeper killed between its two steps leaves an empty directory."""
    store = opened()
    place = store.read(b"key").place
    os.mkdir(place)
    assert store.read(b"key").alive is False
    sweep(store)
    assert not os.path.exists(place)
    os.mkdir(place)
    absent = store.read(b"key")
    assert store.swap(absent, b"1") == absent.revision + 1


def test_usage_outlives_a_slot(opened: Callable[[], FileStore], path: Path) -> None:
    first = FileStore(path)
    first.swap(first.read(b"key"), b"x" * 1000)
    first.close()
    second = opened()
    assert second.used() == cost_of(1000)
    second.swap(second.read(b"key"), b"1")
    assert second.used() == cost_of(1)


def test_usage_of_every_slot_counts(opened: Callable[[], FileStore]) -> None:
    store = opened()
    for slot in (0, 63, 64, 1023):
        store._table[BUCKETS + slot] += 10 ** slot.bit_length()
    assert store.used() == 1 + 10 ** 6 + 10 ** 7 + 10 ** 10


def test_stamps_change_with_their_bucket(opened: Callable[[], FileStore]) -> None:
    store, other = opened(), opened()
    before = other.stamps()
    store.swap(store.read(b"key"), b"1")
    after = other.stamps()
    changed = [b for b in range(BUCKETS) if before[8 * b:8 * b + 8] != after[8 * b:8 * b + 8]]
    assert changed == [bucket_of(b"key")]


def test_too_many_processes(
    opened: Callable[[], FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store, "_SLOTS", 2)
    opened()
    opened()
    with pytest.raises(SharedError, match="open in 2 processes"):
        opened()


def increment(store: FileStore) -> None:
    """Count in ``n``, with a small value and a large one in turn."""
    while True:
        head = store.read(b"n")
        value = store.value(head) if head.alive else b"0"
        if value is not None:
            number = int(value) + 1
            if store.swap(head, b"%d" % number + b" " * (number % 2 * 1000)):
                return


def come_and_go(store: FileStore) -> int:
    """Make a key, remove it, and forget it; return its last revision."""
    while not store.swap(store.glance(b"fleeting"), b"x" * 500):
        pass
    while not (store.overwrite(b"fleeting", b"x", 0) or store.swap(store.read(b"fleeting"), b"x")):
        pass
    while not (last := store.swap(store.read(b"fleeting"), None)):
        pass
    forget(store, bucket_of(b"fleeting"), grace=-1)
    forget(store, bucket_of(b"n"), grace=-1)
    return last


def halting_child(path: Path, halt_at: int, with_signal: signal.Signals) -> int:
    """Fork a process that counts three times and signals itself before system call `halt_at`."""
    child = os.fork()
    if child:
        return child
    calls = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == halt_at:
                os.kill(os.getpid(), with_signal)
            return call(*args, **options)
        return wrapper

    status = 1
    try:
        for name in ("access", "listdir", "mkdir", "open", "rename", "rmdir", "unlink", "write",
                     "close"):
            setattr(os, name, counted(getattr(os, name)))
        fcntl.flock = counted(fcntl.flock)  # type: ignore[assignment]
        store = FileStore(path)
        for _ in range(3):
            increment(store)
        come_and_go(store)
        status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("with_signal", [signal.SIGSTOP, signal.SIGKILL])
def test_halted_before_any_system_call(
    path: Path, opened: Callable[[], FileStore], with_signal: signal.Signals,
) -> None:
    """One process is stopped (killed) there; the others go on, and nothing is lost."""
    store = opened()
    total, revision = 0, 0
    for halt_at in range(1, 1000):
        child = halting_child(path, halt_at, with_signal)
        _, status = os.waitpid(child, os.WUNTRACED)
        halted = not os.WIFEXITED(status)
        increment(store)
        last = come_and_go(store)
        assert last > revision
        revision = last
        increment(store)
        if with_signal == signal.SIGSTOP and halted:
            os.kill(child, signal.SIGCONT)
            _, status = os.waitpid(child, 0)
        found = int(store.value(store.read(b"n")) or b"")
        if with_signal == signal.SIGSTOP or not halted:
            assert status == 0 and found == total + 5
        else:
            assert total + 2 <= found <= total + 5
        total = found
        if not halted:
            break
    assert 40 < halt_at < 999, "the child was to run through, after every call was tried"
    for _ in range(2):
        sweep(store)
    blobs = [name for bucket in range(BUCKETS) for name in store._blobs(bucket)]
    assert len(blobs) == total % 2
