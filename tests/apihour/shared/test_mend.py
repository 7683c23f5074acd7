"""The embedded store when its directory vanishes, when there is no room, when it is large."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from zlib import crc32

import pytest

from apihour.errors import SharedError, SharedFullError
from apihour.shared import store as module
from apihour.shared.key_names import name_of
from apihour.shared.records import BUCKETS
from apihour.shared.store import Change, Shared
from tests.contracts.shared_contract import take

STRETCH = 0.02  # seconds of CPU; ten times what is aimed at, and a tenth of what it was


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the arbiter makes, and the store looks at in every call."""
    monkeypatch.setattr(module, "LOOK", 0.0)
    (tmp_path / "runtime").mkdir()
    return tmp_path / "runtime"


@pytest.fixture
async def two(runtime: Path) -> AsyncIterator[tuple[Shared, Shared]]:
    found = Shared(runtime / "shared"), Shared(runtime / "shared")
    yield found
    for one in found:
        await one.close()


async def test_a_store_that_vanished_is_made_again(
    runtime: Path, two: tuple[Shared, Shared]
) -> None:
    one, other = two
    before = await one.put("key", b"1")
    shutil.rmtree(runtime)
    with pytest.raises(SharedError, match="No such file"):
        await one.get("key")
    assert not runtime.exists(), "the directory is the arbiter's to make"
    runtime.mkdir()
    assert await one.get("key") is None
    assert await other.incr("key") == 1
    entry = await one.get("key")
    assert entry is not None and entry.value == b"1"
    assert entry.revision > before, "a fencing token never goes back"
    assert [found.key for found in await one.items()] == ["key"]
    assert one.statistics() == other.statistics()
    assert one.statistics().used_bytes > 0


async def test_a_watch_goes_on_and_tells_what_was_lost(
    runtime: Path, two: tuple[Shared, Shared]
) -> None:
    one, other = two
    revision = await one.put("lost", b"1")
    watch = one.watch()
    assert await take(watch, 1) == [Change("lost", b"1", revision)]
    shutil.rmtree(runtime)
    runtime.mkdir()
    await other.put("new", b"2")
    found = {change.key: change.value for change in await take(watch, 2)}
    assert found == {"lost": None, "new": b"2"}


@pytest.fixture
def small() -> Iterator[Path]:
    """A memory file system of 64 kB, which is less than a store and its table want."""
    path = Path(tempfile.mkdtemp(prefix="apihour-test-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True,
    ).returncode == 0 if os.geteuid() == 0 and sys.platform == "linux" else False
    try:
        if not mounted:
            pytest.skip("this system lets nobody mount a file system here")
        yield path
    finally:
        if mounted:
            subprocess.run(["umount", path], check=True)
        path.rmdir()


def fill(directory: Path) -> Path:
    """Use all the room that there is in a file system."""
    path = directory / "ballast"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return path


async def test_no_room_is_an_error_and_never_a_signal(small: Path) -> None:
    ballast = fill(small)
    with pytest.raises(SharedFullError, match="No space left"):
        Shared(small / "shared")
    ballast.unlink()
    store = Shared(small / "shared")
    with contextlib.suppress(SharedFullError):
        for number in range(100):
            await store.put(f"key/{number}", b"x" * 4000)
    with pytest.raises(SharedFullError):
        await store.put("large", b"x" * 60_000)
    entries = await store.items("key/")
    assert entries and all(entry.value == b"x" * 4000 for entry in entries)
    await store.delete(entries[0].key)
    await store.put("key/again", b"x" * 4000)
    await store.close()


class Stretches:
    """How much CPU the loop uses between two turns; other processes' share does not count."""

    async def __aenter__(self) -> Stretches:
        self.longest = 0.0
        self._task = asyncio.create_task(self._look())
        await asyncio.sleep(0)
        return self

    async def _look(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()


async def test_a_walk_over_many_keys_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    store = Shared(tmp_path / "shared", limit_bytes=1_000_000_000)
    count = 4000
    # All in one bucket: as many as 1,000,000 keys have in each.
    names = (f"key/{number}" for number in itertools.count())
    keys = list(itertools.islice((n for n in names if crc32(name_of(n)) % BUCKETS == 7), count))
    for key in keys:
        await store.put(key, b"x")
    gc.disable()  # a collection is a stretch of its own, and not this module's
    try:
        async with Stretches() as walked:
            entries = await store.items("key/")
        async with Stretches() as watched:
            changes = await take_all(store.watch("key/"), count)
    finally:
        gc.enable()
    assert [entry.key for entry in entries] == sorted(keys)
    assert {change.key for change in changes} == {entry.key for entry in entries}
    assert walked.longest < STRETCH and watched.longest < STRETCH
    await store.close()


async def take_all(watch: AsyncIterator[Change], number: int) -> list[Change]:
    async with asyncio.timeout(60):
        return [await anext(watch) for _ in range(number)]
