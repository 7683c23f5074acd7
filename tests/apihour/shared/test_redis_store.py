"""``container.shared`` in a real Redis: the contract, and Redis away, back, and full."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apihour.errors import ConfigurationError, SharedDownError, SharedError, SharedFullError
from apihour.shared.flags import Flags
from apihour.shared.open_shared import open_shared
from tests.contracts.flags_contract import FlagsContract, started, wait_until
from tests.contracts.shared_contract import RemoteContract, SharedContract, take
from tests.databases import BOTH, redis_server

__all__ = ["redis_server"]


def made(server: Any, path: Path, **options: Any) -> Any:
    return open_shared({"url": f"unix://:hidden-word@{server.socket}", "deadline": 5, **options},
                       path)


@pytest.fixture
async def shared(redis_server: Any, tmp_path: Path) -> AsyncIterator[Any]:
    shared = made(redis_server, tmp_path)
    await shared._client.flushall()
    await shared.open()
    yield shared
    await shared.close()


@pytest.fixture
async def another(shared: Any, redis_server: Any, tmp_path: Path) -> AsyncIterator[Any]:
    another = made(redis_server, tmp_path)
    yield another
    await another.close()


@BOTH
class TestRedisShared(SharedContract):
    """The contract."""


@BOTH
class TestRedisAway(RemoteContract):
    """What it does when it goes and comes."""

    @pytest.fixture
    def server(self, redis_server: Any) -> Any:
        return redis_server

    @pytest.fixture
    def clients(self, redis_server: Any, tmp_path: Path) -> Callable[..., Any]:
        return partial(made, redis_server, tmp_path)


@BOTH
class TestFlagsOnRedis(FlagsContract):
    """Theirs."""


async def test_two_prefixes_are_two_stores(
    shared: Any, redis_server: Any, tmp_path: Path
) -> None:
    other = made(redis_server, tmp_path, prefix="another")
    await shared.put("key", b"1")
    assert await other.get("key") is None
    assert await other.items() == []
    await other.close()


async def test_items_have_one_deadline_however_many_they_are(
    shared: Any, redis_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour.shared.redis_store._PAGE", 1)
    for number in range(20):
        await shared.put(f"key-{number:02}", b"1")
    hurried = made(redis_server, tmp_path, deadline=0.5)
    assert len(await hurried.items()) == 20
    look_at = hurried._look_at

    async def slowly(names: list[bytes]) -> Any:
        await asyncio.sleep(0.1)  # as each of many pages takes
        return await look_at(names)

    monkeypatch.setattr(hurried, "_look_at", slowly)
    with pytest.raises(SharedDownError, match=r"no answer within 0\.5 s"):
        await hurried.items()
    await hurried.close()


async def test_revisions_grow_though_all_is_lost(shared: Any) -> None:
    first = await shared.put("key", b"1")
    await shared._client.flushall()
    assert await shared.get("key") is None
    assert await shared.put("key", b"2", expected_revision=0) > first


async def test_numbers_end_at_64_bits_and_values_at_their_limit(shared: Any) -> None:
    await shared.put("n", b"%d" % (2**63 - 1))
    with pytest.raises(SharedError, match=r"'n'.*64 bits"):
        await shared.incr("n")
    assert (await shared.get("n")).value == b"%d" % (2**63 - 1)
    await shared.put("log", b"x" * 999_999)
    with pytest.raises(SharedError, match=r"'log'.*1000001"):
        await shared.append("log", b"xx")


async def test_flags_hold_while_it_is_away_and_when_it_comes_back_with_nothing(
    shared: Any, another: Any, redis_server: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "flags.json"
    flags = Flags(shared, copy=copy)
    late = Flags(made(redis_server, tmp_path, deadline=0.3), copy=copy)
    await flags.put("x", 7)
    await flags.put("y", 7)
    await flags.reset("y")
    redis_server.halt(signal.SIGKILL)
    async with started(flags, late):
        assert (flags.get("x", 0), late.get("x", 0), late.get("y", 0)) == (7, 7, 0)
        with pytest.raises(SharedDownError):
            await late.put("x", 8)
        heard = late._shared.heard  # type: ignore[attr-defined]
        redis_server.start()
        async with asyncio.timeout(30):
            while (await another.items())[-1:] == []:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await wait_until(lambda: late._shared.heard > heard)  # type: ignore[attr-defined]
        await Flags(another).put("x", 9)
        await wait_until(lambda: (flags.get("x", 0), late.get("x", 0)) == (9, 9))
    await late._shared.close()


async def test_a_watch_bears_what_others_publish(shared: Any) -> None:
    watch = shared.watch()
    await shared.put("a", b"1")
    await take(watch, 1)
    for rubbish in (b"", b"x", b"x y", b"-1 a", b"\xff \xff", b"1 \xff", b"9" * 5000 + b" a",
                    b"9" * 30 + b" b"):
        await shared._client.publish(b"{apihour}:news", rubbish)
    await shared.put("a", b"2")
    assert [change.value for change in await take(watch, 1)] == [b"2"]


async def test_names_that_others_add_are_passed_over(shared: Any) -> None:
    await shared.put("a", b"1")
    await shared._client.zadd(b"{apihour}:names", {b"\xff": 0, b"gone": 0})
    await shared._client.hset(b"{apihour}:k:\xff", mapping={"r": "1", "v": "1"})
    assert [entry.key for entry in await shared.items()] == ["a"]


async def test_what_redis_refuses_is_an_error_of_the_store(shared: Any) -> None:
    await shared._client.set(b"{apihour}:names", b"a word")
    with pytest.raises(SharedError, match="WRONGTYPE"):
        await shared.items()
    watch = shared.watch()
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.wait({waiting}, timeout=0.5)
    await shared._client.delete(b"{apihour}:names")
    await shared.put("a", b"1")
    assert (await asyncio.wait_for(waiting, 30)).key == "a"


async def test_who_may_not_look_is_told_what_was_expected(shared: Any) -> None:
    await shared._client.execute_command("ACL SETUSER default -info")
    try:
        with pytest.raises(ConfigurationError, match=r"info.*expected"):
            await shared.open()
    finally:
        await shared._client.execute_command("ACL SETUSER default +info")


async def test_an_engine_that_forgets_is_refused(shared: Any) -> None:
    await shared._client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match=r"allkeys-lru.*expected noeviction"):
            await shared.open()
    finally:
        await shared._client.config_set("maxmemory-policy", "noeviction")


async def test_no_room_is_said(shared: Any) -> None:
    await shared.put("key", b"1")
    await shared._client.config_set("maxmemory", 1)
    try:
        with pytest.raises(SharedFullError, match="'key'"):
            await shared.put("key", b"2")
    finally:
        await shared._client.config_set("maxmemory", 0)


async def test_a_wrong_password_is_no_secret_told(redis_server: Any, tmp_path: Path) -> None:
    shared = open_shared(f"unix://:wrong-word@{redis_server.socket}", tmp_path)
    with pytest.raises(SharedError) as refused:
        await shared.get("key")
    assert "wrong-word" not in str(refused.value)
    await shared.close()


async def test_leases_are_of_the_daemon_and_figures_the_engines(
    shared: Any, tmp_path: Path
) -> None:
    leases = shared.leases("engines/pg", 2)
    assert leases.take() is not None
    assert list((tmp_path / "leases").iterdir())
    with pytest.raises(SharedError, match="only the embedded store"):
        shared.statistics()


@pytest.mark.parametrize(("config", "said"), [
    ("http://x", "expected redis://"), ({"url": "redis://x", "limit_bytes": 1}, "'limit_bytes'"),
    ({"url": "redis://x", "deadline": 0}, "deadline: 0"), (7, "expected a URL"),
    ({"url": "env:NOT_SET"}, "not set"), ({"url": "nats://x", "prefix": "a"}, "'prefix'"),
])
def test_configurations_that_are_refused(config: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_shared(config, tmp_path)
    assert said in str(refused.value)
