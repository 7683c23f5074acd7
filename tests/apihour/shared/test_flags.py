"""Feature values: their types, percentages, bounds, and what the shell does with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.app.container import Container
from apihour.errors import ConfigurationError, SharedDownError, SharedError, SharedFullError
from apihour.ops.commands.flag_list import flags as command
from apihour.ops.model import CommandFailed, Role
from apihour.shared.flags import Flags, read_value
from apihour.shared.store import Shared
from tests.contracts.flags_contract import FlagsContract, started, wait_until


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    shared = Shared(tmp_path / "shared")
    yield shared
    await shared.close()


@pytest.fixture
async def another(shared: Shared, tmp_path: Path) -> AsyncIterator[Shared]:
    another = Shared(tmp_path / "shared")
    yield another
    await another.close()


class TestFlags(FlagsContract):
    """On the embedded store."""


async def test_values_go_before_the_configuration_and_this_before_the_default(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    flags = Flags(shared, {"n": 2, "price": 1, "on": True})
    async with started(flags):
        assert (flags.get("n", 1), flags.get("price", 0.5), flags.get("x", "y")) == (2, 1.0, "y")
        assert isinstance(flags.get("price", 0.5), float)
        await flags.put("n", 3)
        assert flags.get("n", 1) == 3
        await flags.reset("n")
        assert flags.get("n", 1) == 2
        await flags.put("n", "many")
        assert [flags.get("n", 1) for _ in range(3)] == [1, 1, 1]
        assert caplog.text.count("flag 'n': 'many'; expected a whole number, 1 holds") == 1
        assert flags.get("on", 1) == 1, "True is no number"
        assert [flag.name for flag in flags.all()] == ["n", "on", "price", "x"]


async def test_a_percentage_is_of_keys_and_each_stays_where_it_is(shared: Shared) -> None:
    flags = Flags(shared)
    async with started(flags):
        on: set[int] = set()
        for share in (0, 1, 10, 50, 99.5, 100):
            await flags.put("x", f"{share}%")
            now = {key for key in range(4000) if flags.enabled("x", key)}
            assert on <= now, "who has it keeps it"
            assert len(now) == pytest.approx(40 * share, abs=160)
            on = now
        assert len(on) == 4000
        await flags.put("x", "50%")
        await flags.put("y", "50%")
        assert 800 < sum(flags.enabled("x", key) and flags.enabled("y", key)
                         for key in range(4000)) < 1200, "flags are drawn by themselves"
        assert [flags.enabled("x", f"user-{n}") for n in range(8)] == [
            False, True, False, True, False, False, True, True], "the same in every release"
        await flags.put("x", "101%")
        assert flags.enabled("x", "a", default=True) is True
        assert flags.enabled("unset") is False


async def test_bounds(shared: Shared) -> None:
    flags = Flags(shared)
    for name in ("", "a b", "é", "-a", "x" * 65, "a\n"):
        with pytest.raises(ValueError, match="expected at most 64"):
            await flags.put(name, 1)
        with pytest.raises(ValueError, match="expected at most 64"):
            await flags.reset(name)
    for value in (None, [], float("nan"), float("inf"), 2**63, 10**400, "x" * 201, b"x"):
        with pytest.raises(ValueError, match="expected on, off"):
            await flags.put("x", value)  # type: ignore[arg-type]
    flags._records = dict.fromkeys((f"n{n}" for n in range(1000)), flags)  # type: ignore[arg-type]
    with pytest.raises(SharedFullError, match="'x': there are 1000 already"):
        await flags.put("x", 1)
    flags._records = {}
    async with started(flags):
        with pytest.raises(ValueError, match="expected a bool"):
            flags.get("x", None)  # type: ignore[type-var]
        with pytest.raises(ValueError, match="expected at most 64"):
            flags.get("not a name", 1)


@pytest.mark.parametrize(("declared", "said"), [
    ([1], "expected a mapping"), ({"a b": 1}, "'a b'"), ({"a": [1]}, r"\[1\]"),
    ({1: 1}, "flag 1"), ({"a": None}, "None")])
def test_declarations_that_are_refused(declared: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Flags(Shared(tmp_path / "s"), declared)


@pytest.mark.parametrize(("word", "like", "value"), [
    ("on", None, True), ("off", False, False), ("25%", True, "25%"), ("25%", None, "25%"),
    ("on", "50%", True), ("on", "a text", "on"), ("7", None, 7), ("7", 1, 7), ("7", 1.5, 7.0),
    ("7.5", None, 7.5), ("blue", None, "blue"), ("7", "a", "7"), ("150%", None, "150%")])
def test_words(word: str, like: Any, value: Any) -> None:
    found = read_value("x", word, like)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("word", "like", "said"), [
    ("maybe", True, "expected on, off or N%, as True"), ("on", 1, "expected a whole number, as 1"),
    ("7.5", 1, "a whole number"), ("150%", False, "on, off or N%"), ("7", True, "on, off")])
def test_words_that_are_refused(word: str, like: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_value("x", word, like)


async def test_reading_costs_microseconds(shared: Shared) -> None:
    flags = Flags(shared)
    async with started(flags):
        await flags.put("x", True)
        await flags.put("y", "50%")
        for read in (lambda: flags.get("x", False), lambda: flags.get("unset", False),
                     lambda: flags.enabled("y", "user-7")):
            best = 1.0
            for _ in range(50):
                began = time.perf_counter()
                for _ in range(100):
                    read()
                best = min(best, time.perf_counter() - began)
            assert best / 100 < 20e-6


class Away(Shared):
    """An embedded store that can be away, as one on another machine."""

    heard = time.monotonic() - 100
    is_away = True

    async def items(self, prefix: str = "") -> Any:
        if self.is_away:
            raise SharedDownError("away")
        return await super().items(prefix)


async def test_a_worker_that_starts_while_the_store_is_away_has_what_others_knew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, copy = Away(tmp_path / "s"), tmp_path / "flags.json"
    first = Flags(store, copy=copy)
    await first.put("x", 7)
    assert copy.stat().st_mode & 0o777 == 0o600
    late = Flags(store, copy=copy)
    async with started(late):
        assert late.get("x", 0) == 7
        assert late.age > 90
        assert "flags: away; what was known last holds" in caplog.text
        await store.delete("apihour.flags/x")
        store.is_away = False
        async with asyncio.timeout(30):
            while await store.get("apihour.flags/x") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    for rubbish in ("", "[]", "{", '{"x": 7}', '{"../x": [1, 1]}', '{"x": [1, 1]}' * 2):
        copy.write_text(rubbish)
        store.is_away = True
        lost = Flags(store, copy=copy)
        async with started(lost):
            assert lost.get("x", 0) == 0
    unwritable = Flags(store, copy=tmp_path / "nowhere" / "flags.json")
    await unwritable.put("x", 1)
    assert "a worker that starts while the store is away knows none" in caplog.text
    await store.close()


async def call(container: Any, *words: Any, role: Role = Role.ADMIN, **options: Any) -> Any:
    context: Any = SimpleNamespace(worker=SimpleNamespace(container=container), role=role)
    return await command(context, *words, **options)


async def test_the_command(tmp_path: Path) -> None:
    worker = SimpleNamespace(runtime=SimpleNamespace(shared=tmp_path / "s"))
    container, other = (Container({"flags": {"checkout": False}}, worker) for _ in range(2))
    await other.flags.start()
    [row] = await call(container, role=Role.OBSERVER)
    assert (row.flag, row.value, row.default, row.set, row.age) == ("checkout", "off", "off", "", 0)
    [row] = await call(container, "checkout", "25%")
    assert (row.value, row.default) == ("25%", "off") and row.set
    await wait_until(lambda: other.flags.state("checkout").value == "25%")
    [row] = await call(container, "checkout", reset=True)
    assert (row.value, row.set) == ("off", "")
    await call(container, "depth", "3")
    assert len(await call(container)) == 2
    [row] = await call(container, "depth", reset=True)
    assert (row.flag, row.value, row.default) == ("depth", "", "")
    await call(container, "depth", "3")
    with pytest.raises(CommandFailed, match="flag 'other': not set"):
        await call(container, "other")
    for words, options, said in (
            (("checkout", "maybe"), {}, "expected on, off or N%"), ((), {"reset": True}, "FLAG"),
            (("depth", "x"), {}, "whole number"), (("a b", "1"), {}, "'a b'"),
            (("depth", "1"), {"reset": True}, "or FLAG --reset")):
        with pytest.raises(CommandFailed, match=said) as refused:
            await call(container, *words, **options)
        assert refused.value.kind == "usage"
    with pytest.raises(CommandFailed, match="needs role admin") as refused:
        await call(container, "checkout", "on", role=Role.OPERATOR)
    assert refused.value.kind == "role"
    assert await call(None) == []
    await other.close_made()
    await container.close_made()


async def test_the_command_while_the_store_is_away(tmp_path: Path) -> None:
    store = Away(tmp_path / "s")
    container = SimpleNamespace(flags=Flags(store, {"x": 1}))
    [row] = await call(container)
    assert row.age > 90
    with pytest.raises(CommandFailed, match="flags: away"):
        await call(container, "x", "2")
    container.flags = Flags(store)
    with pytest.raises(CommandFailed, match="flags: away"):
        await call(container)
    await store.close()


async def test_a_watch_that_fails_begins_again(shared: Shared, another: Shared) -> None:
    watch, asked = shared.watch, 0

    def broken(prefix: str = "") -> Any:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise SharedError("broken")
        return watch(prefix)

    shared.watch = broken  # type: ignore[assignment, method-assign]
    flags = Flags(shared)
    async with started(flags):
        await wait_until(lambda: asked == 3)
        await Flags(another).put("x", 1)
        await wait_until(lambda: flags.get("x", 0) == 1)


async def test_a_record_whose_time_no_clock_can_tell_is_passed_over(shared: Shared) -> None:
    await shared.put("apihour.flags/n", b"[1,1" + b"0" * 400 + b"]")
    flags = Flags(shared)
    async with started(flags):
        assert flags.get("n", 5) == 5
        await flags.put("n", 7)
        assert flags.get("n", 5) == 7
