"""The embedded shared store: the contract, its limits, and processes that stop and die."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from apihour.errors import SharedBusyError, SharedError, SharedFullError
from apihour.shared.records import BUCKETS, cost_of
from apihour.shared.store import CompareAndSet, Entry, Shared
from tests.contracts.shared_contract import SharedContract, take

MEMORY = Path("/dev/shm")

# One writer: counts until told to stop, and notes each success where the test can read it
# even when the writer was killed.
WRITER = """
import asyncio, mmap, os, sys
from apihour.shared.store import Shared

async def main(path, journal, key, number):
    shared = Shared(path, deadline=30)
    with open(journal, "r+b") as file:
        done = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
    while number < 0 or done[0] < number:
        await shared.incr(key)
        done[0] += 1
        if done[0] % 50 == 0:
            await shared.append("log", b"x" * 40)
            await shared.put("temporary", b"y" * 300)
            await shared.delete("temporary")
    await shared.close()

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
"""

WATCHER = """
import asyncio, sys
from apihour.shared.store import Shared

async def main():
    async for change in Shared(sys.argv[1]).watch():
        print(change.key, flush=True)

asyncio.run(main())
"""


class Writer:
    """A process that increments `key`, `number` times or without end."""

    def __init__(self, directory: Path, name: str, key: str, number: int = -1) -> None:
        self.journal = directory / name
        self.journal.write_bytes(bytes(8))
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory / "store"), str(self.journal), key,
             str(number)]
        )

    @property
    def done(self) -> int:
        return int.from_bytes(self.journal.read_bytes(), sys.byteorder)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.002)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one, as the daemon's runtime directory is."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(prefix="apihour-test-", dir=MEMORY))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def shared(directory: Path) -> AsyncIterator[Shared]:
    store = Shared(directory / "store")
    yield store
    await store.close()


@pytest.fixture
async def another(directory: Path, shared: Shared) -> AsyncIterator[Shared]:
    store = Shared(directory / "store")
    yield store
    await store.close()


class TestEmbedded(SharedContract):
    """The contract."""


class TestCompareAndSetLoops(TestEmbedded):
    """The same over get and put alone: the loops that other backends inherit."""

    class Plain(Shared):
        update = CompareAndSet.update

    @pytest.fixture
    async def shared(self, directory: Path) -> AsyncIterator[Shared]:
        store = self.Plain(directory / "store")
        yield store
        await store.close()


async def test_survives_its_clients(directory: Path) -> None:
    first = Shared(directory / "store")
    revision = await first.put("key", b"x" * 1000)
    await first.close()
    second = Shared(directory / "store")
    assert await second.get("key") == Entry("key", b"x" * 1000, revision)
    await second.close()


async def test_only_the_owner_may_read(shared: Shared, directory: Path) -> None:
    await shared.put("small", b"1")
    await shared.put("large", b"x" * 1000)
    for path in (directory / "store").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_full(directory: Path) -> None:
    shared = Shared(directory / "store", limit_bytes=300_000)
    other = Shared(directory / "store", limit_bytes=300_000)
    for number in range(10):
        await (shared, other)[number % 2].put(f"key/{number}", b"x" * 20_000)
    with pytest.raises(SharedFullError, match=r"'more'.*expected less than 300000"):
        await shared.put("more", b"x" * 100_000)
    assert await shared.get("more") is None
    assert shared.statistics().used_bytes <= 300_000
    assert shared.statistics() == other.statistics()
    await shared.put("key/0", b"smaller")
    for number in range(1, 10):
        await other.delete(f"key/{number}")
    await shared.put("more", b"x" * 100_000)
    await shared.close()
    await other.close()


async def test_the_file_system_is_full(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(SharedFullError, match="No space left"):
            await shared.put("key", b"x" * 1000)
    assert await shared.get("key") is None
    await shared.put("key", b"x" * 1000)


async def test_path_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SharedError, match="file"):
        Shared(tmp_path / "file")


async def test_refuses_a_forked_process(shared: Shared) -> None:
    await shared.put("key", b"1")
    child = os.fork()
    if child == 0:
        try:
            shared.statistics()
        except SharedError as error:
            os._exit(0 if "opened by process" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 0


async def test_deadline(directory: Path) -> None:
    shared = Shared(directory / "store", deadline=0.05)
    other = Shared(directory / "store")
    calls = 0

    def overtaken(value: bytes | None) -> bytes:
        nonlocal calls
        calls += 1
        store = other._files
        store.swap(store.read(b"key"), b"theirs")
        return b"mine"

    began = time.monotonic()
    with pytest.raises(SharedBusyError, match=r"'key': other writers won \d+ times in 0.05 s"):
        await shared.update("key", overtaken)
    assert time.monotonic() - began < 5
    assert calls > 2
    await shared.close()
    await other.close()


async def test_writers_sweep_what_has_expired(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour.shared.sweeper.GRACE", -1)
    monkeypatch.setattr("apihour.shared.sweeper.CALM", 0)
    shared = Shared(directory / "store")
    for number in range(500):
        await shared.put(f"session/{number}", b"x" * 200, ttl=0.001)
    await until(lambda: shared._files.read(b"session\x01499").alive is False)
    for _ in range(1000):
        await shared.put("other", b"1")
    assert shared.statistics().used_bytes == cost_of(1)
    assert not any(shared._files._blobs(bucket) for bucket in range(BUCKETS))
    await shared.close()


async def test_a_full_sweep_lets_the_loop_run(directory: Path) -> None:
    shared = Shared(directory / "store", limit_bytes=8_000_000)
    for number in range(3000):
        await shared.put(f"key/{number}", b"1")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    with pytest.raises(SharedFullError):
        for number in range(20):
            await shared.put(f"large/{number}", b"x" * 1_000_000)
    counter.cancel()
    assert turns >= 15
    await shared.close()


async def test_watch_across_processes(shared: Shared, directory: Path) -> None:
    watch = shared.watch("count")
    writer = Writer(directory, "journal", "count", number=5)
    try:
        async with asyncio.timeout(30):
            async for change in watch:
                if change.value == b"5":
                    break
    finally:
        writer.end()


async def test_four_processes_lose_nothing(shared: Shared, directory: Path) -> None:
    writers = [Writer(directory, str(n), "count", number=3000) for n in range(4)]
    try:
        for writer in writers:
            await until(lambda w=writer: w.process.poll() is not None)  # type: ignore[misc]
            assert writer.process.returncode == 0
    finally:
        for writer in writers:
            writer.end()
    assert await shared.incr("count", 0) == 12_000
    log = await shared.get("log")
    assert log is not None and len(log.value) == 12_000 // 50 * 40


@pytest.mark.parametrize("with_signal", [signal.SIGSTOP, signal.SIGKILL])
async def test_stopped_and_killed_writers(
    shared: Shared, directory: Path, with_signal: signal.Signals
) -> None:
    """Stopped or killed at random moments, a process blocks nobody and corrupts nothing."""
    writers: list[Writer] = []
    try:
        for round_ in range(6):
            writers.append(writer := Writer(directory, str(round_), "count"))
            await until(lambda w=writer: w.done > 20)  # type: ignore[misc]
            await asyncio.sleep(random.random() * 0.01)
            os.kill(writer.process.pid, with_signal)
            for _ in range(50):
                began = time.monotonic()
                await shared.incr("count")
                await shared.put(f"bulk/{round_}", os.urandom(2000))
                assert time.monotonic() - began < 1
    finally:
        for writer in writers:
            writer.end()
    mine = 6 * 50
    done = sum(writer.done for writer in writers) + mine
    # Each may have been ended between its last success and the note it makes of it.
    assert done <= await shared.incr("count", 0) <= done + len(writers)
    assert (await shared.items("bulk/"))[-1].key == "bulk/5"


async def test_a_stopped_watcher_blocks_nobody(shared: Shared, directory: Path) -> None:
    await shared.put("key", b"1")
    watcher = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WATCHER, str(directory / "store"), stdout=subprocess.PIPE
    )
    try:
        assert watcher.stdout is not None
        assert await watcher.stdout.readline() == b"key\n"
        watcher.send_signal(signal.SIGSTOP)
        for _ in range(2000):
            await shared.incr("count")
        watcher.send_signal(signal.SIGCONT)
        assert await watcher.stdout.readline() == b"count\n"
    finally:
        watcher.kill()
        await watcher.wait()


async def test_slow_watchers_get_the_latest(shared: Shared, another: Shared) -> None:
    watch = another.watch()
    await shared.put("a", b"1")
    await shared.put("b", b"1")
    [first] = await take(watch, 1)
    other = "b" if first.key == "a" else "a"
    for number in range(2, 6):
        await shared.put(other, b"%d" % number)
    [second] = await take(watch, 1)
    assert (second.key, second.value) == (other, b"5")
