"""Who is the one: locks between processes, names, and what happens to what fails."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apihour.bind.addresses import parse_address
from apihour.errors import ConfigurationError
from apihour.single.singles import Lock, Singles, see_singles

HOLDER = """
import sys
from pathlib import Path
from apihour.single.singles import Lock
print(Lock(Path(sys.argv[1])).take(), flush=True)
sys.stdin.read()
"""


class Container:
    single = {"broker", "job"}
    exclusive = ("other",)

    async def job(self) -> None: ...

    def plain(self) -> None: ...


def test_names_of_servers_and_of_async_methods() -> None:
    servers = {"broker": [parse_address(":1")], "other": [], "http": []}
    assert see_singles(Container(), servers) == {"broker": False, "job": False, "other": True}
    assert see_singles(object(), {}) == {}


@pytest.mark.parametrize(("value", "message"), [
    ("broker", "expected a set of names"), (3, "expected a set of names"),
    ({"plain"}, "or of an async method"), ({"gone"}, r"'gone'; expected the name of a server"),
    ({7}, "7; expected"),
])
def test_what_is_no_name_is_refused(value: object, message: str) -> None:
    container = Container()
    container.single = value  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=message) as caught:
        see_singles(container, {"other": []})
    assert "Container.single: " in str(caught.value)


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_lock_is_one_process_s_until_it_dies_and_no_child_s(tmp_path: Path) -> None:
    path = tmp_path / "single" / "x.lock"
    process = hold(path)
    lock = Lock(path)
    assert not lock.take()
    process.kill()
    process.wait()
    assert lock.take() and lock.still()
    assert path.stat().st_mode & 0o777 == 0o600
    pid = os.fork()
    if pid == 0:  # closes its copy, which gives nothing back
        lock.release()
        os._exit(0)
    os.waitpid(pid, 0)
    other = Lock(path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as asked:
        assert asked.stdout is not None
        assert asked.stdout.readline() == "False\n"
    lock.release()
    assert other.take()
    other.release()


def test_a_lock_whose_directory_was_removed_is_made_again(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "single" / "x.lock")
    assert lock.take()
    shutil.rmtree(tmp_path / "single")
    assert lock.still()
    assert lock.path.exists()
    lock.path.unlink()
    process = hold(lock.path)  # another was quicker
    assert not lock.still()
    process.kill()
    process.wait()
    assert lock.take()
    lock.release()


class House:
    def __init__(self, directory: Path) -> None:
        self.may_take, self.left = True, 0
        self.singles = Singles(directory, "1.1", logging.getLogger("test"), lambda: self.may_take,
                               self.leave)

    def leave(self) -> None:
        self.left += 1


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_job_runs_and_its_lock_stays_until_it_is_released(tmp_path: Path) -> None:
    house, ended = House(tmp_path), []

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    house.singles.watch("job", job)
    await until(lambda: house.singles.is_here("job"))
    assert await house.singles.end("job")
    assert ended
    assert house.singles.is_here("job")
    house.singles.release("job")
    assert not house.singles.is_here("job")


async def test_who_may_not_take_does_not(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.may_take = False
    house.singles.watch("job", asyncio.Event().wait)
    await asyncio.sleep(0.2)
    assert not house.singles.is_here("job")
    house.may_take = True
    await until(lambda: house.singles.is_here("job"))
    await house.singles.end("job")


async def test_one_that_fails_gives_it_back_and_one_that_returns_keeps_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house, began = House(tmp_path), []

    async def fails() -> None:
        began.append(1)
        raise RuntimeError("no queue")

    async def returns() -> None: ...

    house.singles.watch("fails", fails)
    house.singles.watch("returns", returns)
    await until(lambda: "'fails' failed; next try in 1 s" in caplog.text)
    assert not house.singles.is_here("fails")
    await until(lambda: len(began) == 2)
    assert house.singles.is_here("returns")
    for name in ("fails", "returns"):
        assert await house.singles.end(name)


async def test_one_that_had_run_for_long_is_begun_again_as_after_its_first_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour.single.singles._FIRST_RETRY", 0.01)
    monkeypatch.setattr("apihour.single.singles._LAST_RETRY", 0.1)
    singles, runs = House(tmp_path).singles, 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.3 if runs == 3 else 0)
        raise OSError("gone")

    singles.watch("fails", fail)
    await until(lambda: caplog.text.count("'fails' failed") >= 3)
    await singles.end("fails")
    pauses = [record.getMessage().rpartition("in ")[2] for record in caplog.records
              if "next try" in record.getMessage()]
    assert pauses[:3] == ["0.01 s", "0.02 s", "0.01 s"]


async def test_a_worker_whose_lock_another_got_leaves(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.singles.watch("job", asyncio.Event().wait)
    await until(lambda: house.singles.is_here("job"))
    (tmp_path / "job.lock").unlink()
    process = hold(tmp_path / "job.lock")  # the loop cannot look meanwhile
    try:
        await until(lambda: house.left)
        assert not house.singles.is_here("job")
    finally:
        process.kill()
        process.wait()
    await house.singles.end("job")
