"""``container.shared`` in a real NATS: the contract, and NATS away, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import nats
import pytest
from nats.js.client import JetStreamContext
from nats.js.errors import BadRequestError, NotFoundError, ServiceUnavailableError

from apihour.app.container import Container
from apihour.errors import ConfigurationError, RevisionError, SharedDownError, SharedError
from apihour.shared.nats_subjects import decode, encode
from apihour.shared.open_shared import open_shared
from tests.apihour.loops import wait_until
from tests.contracts.flags_contract import FlagsContract
from tests.contracts.shared_contract import RemoteContract, SharedContract, take
from tests.nats_server import NATSServer, lonely_nats, nats_server

__all__ = ["lonely_nats", "nats_server"]


def made(server: NATSServer, path: Path, **options: Any) -> Any:
    return open_shared({"url": server.url, "deadline": 5, **options}, path)


async def emptied(server: NATSServer) -> None:
    client = await nats.connect(server.url)
    for info in await client.jetstream().streams_info():
        await client.jetstream().delete_stream(info.config.name)
    await client.close()


@pytest.fixture
async def shared(nats_server: NATSServer, tmp_path: Path) -> AsyncIterator[Any]:
    await emptied(nats_server)
    shared = made(nats_server, tmp_path)
    await shared.open()
    yield shared
    await shared.close()


@pytest.fixture
async def another(
    shared: Any, nats_server: NATSServer, tmp_path: Path
) -> AsyncIterator[Any]:
    another = made(nats_server, tmp_path)
    yield another
    await another.close()


class TestNATSShared(SharedContract):
    """The contract."""

    ttl = 1.0


class TestNATSAway(RemoteContract):
    """What it does when it goes and comes."""

    @pytest.fixture
    def server(self, nats_server: NATSServer) -> NATSServer:
        return nats_server

    @pytest.fixture
    def clients(self, nats_server: NATSServer, tmp_path: Path) -> Callable[..., Any]:
        return partial(made, nats_server, tmp_path)


class TestFlagsOnNATS(FlagsContract):
    """Theirs."""


@pytest.mark.parametrize("key", ["a", "/", "a//b/", "=", ".", "é ☃", "*", ">", "a.b", "=41", "/="])
def test_keys_are_told_apart(key: str) -> None:
    assert decode(encode(key)) == key
    assert not set(encode(key)) & set(" *>/")
    assert all(encode(key).split("."))


async def test_a_time_to_live_is_rounded_up(shared: Any) -> None:
    await shared.put("key", b"1", ttl=1.2)
    await asyncio.sleep(1.3)
    assert await shared.get("key") is not None


async def test_revisions_grow_though_the_bucket_is_made_again(
    shared: Any, nats_server: NATSServer, tmp_path: Path
) -> None:
    first = await shared.put("key", b"1")
    await emptied(nats_server)
    again = made(nats_server, tmp_path)
    assert await again.put("key", b"2", expected_revision=0) > first
    await again.close()


async def test_keys_of_another_program_are_passed_over(
    shared: Any, nats_server: NATSServer
) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().publish("$KV.apihour.=FF", b"?")
    await shared.put("key", b"1")
    await client.jetstream().publish("$KV.apihour.x=FE.y", b"?")
    assert [entry.key for entry in await shared.items()] == ["key"]
    watch = shared.watch()
    assert [change.key for change in await take(watch, 1)] == ["key"]
    await client.jetstream().publish("$KV.apihour.=FD", b"?")
    await shared.put("more", b"1")
    assert [change.key for change in await take(watch, 1)] == ["more"]
    await client.close()


async def test_a_look_that_fails_half_way_leaves_no_subscription(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shared.put("key", b"1")
    client = await shared._connection.client(5)
    before = set(client._subs)
    monkeypatch.setattr(JetStreamContext.PushSubscription, "consumer_info",
                        AsyncMock(side_effect=ServiceUnavailableError()))
    with pytest.raises(SharedDownError):
        await shared.items()
    await wait_until(lambda: set(client._subs) == before)


async def test_what_was_only_written_does_not_say_that_nats_is_there(
    shared: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shared._say("no answer in time")
    await shared._leave(None, (AsyncMock(), ""))
    assert "answers again" not in caplog.text
    await shared.get("key")
    assert "answers again" in caplog.text


async def test_what_cannot_hold_for_a_time_is_refused(
    nats_server: NATSServer, tmp_path: Path
) -> None:
    await emptied(nats_server)
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name="KV_old", subjects=["$KV.old.>"])
    shared = made(nats_server, tmp_path, bucket="old")
    with pytest.raises(ConfigurationError, match="KV_old has no times to live"):
        await shared.open()
    await shared.close()
    await client.close()


async def test_a_nats_without_jetstream_is_refused(tmp_path: Path) -> None:
    server = NATSServer(jetstream=False)
    try:
        shared = made(server.start(), tmp_path)
        with pytest.raises(ConfigurationError, match="expected a NATS with JetStream"):
            await shared.open()
        # Who was started while it was away, and calls it now, hears what a store says.
        for call in (shared.get("a"), shared.items(), shared.put("a", b""), shared.delete("a")):
            with pytest.raises(SharedError, match="expected a NATS with JetStream"):
                await call
        await shared.close()
    finally:
        server.stop()


async def test_a_cluster_without_a_leader_is_away_and_no_fault_of_the_configuration(
    lonely_nats: NATSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = made(lonely_nats, tmp_path, deadline=0.3)
    for _ in range(3):
        with pytest.raises(SharedDownError):
            await shared.get("key")
    assert "answers again" not in caplog.text
    assert caplog.text.count("away: ") == 1
    monkeypatch.setattr(shared, "_find", AsyncMock(side_effect=ServiceUnavailableError(
        code=503, err_code=10008, description="JetStream system temporarily unavailable")))
    await shared.start()  # a worker's: it serves all the same
    monkeypatch.undo()
    lonely_nats.alone()
    async with asyncio.timeout(60):
        while True:
            try:
                await shared.put("key", b"1")
                break
            except SharedDownError:
                continue
    await shared.close()


async def test_a_bucket_that_another_worker_makes_at_this_moment_is_waited_for(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster refuses a second one of that name before it shows the first."""
    info = await shared._find(await shared._jetstream())
    missing = NotFoundError(404, "stream not found", 10059)
    monkeypatch.setattr(JetStreamContext, "stream_info",
                        AsyncMock(side_effect=[missing, missing, missing, info]))
    monkeypatch.setattr(JetStreamContext, "add_stream", AsyncMock(
        side_effect=BadRequestError(400, "stream name already in use", 10058)))
    await shared.open()
    monkeypatch.setattr(JetStreamContext, "stream_info", AsyncMock(side_effect=missing))
    with pytest.raises(SharedDownError, match=r"no answer within 0\.3 s"):
        await shared.open(0.3)


async def test_a_bucket_that_is_gone_does_not_say_that_its_keys_are(shared: Any) -> None:
    js = await shared._jetstream()
    assert await shared.get("key") is None
    await js.delete_stream(shared._stream)
    for call in (shared.get("key"), shared.delete("key"), shared.incr("key")):
        with pytest.raises(SharedDownError):
            await call


async def test_who_is_told_less_than_he_has_seen_asks_again(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await shared.put("key", b"1")
    second = await shared.put("key", b"2", first)
    answers = [(first, b"1", ""), (0, None, ""), (second, b"2", "")]
    monkeypatch.setattr(shared, "_answered", AsyncMock(side_effect=answers))
    found = await shared.get("key")
    assert (found.value, found.revision) == (b"2", second)
    monkeypatch.setattr(shared, "_answered", AsyncMock(return_value=(first, b"1", "")))
    shared.deadline = 0.3
    with pytest.raises(SharedDownError, match=r"no answer within 0\.3 s"):
        await shared.get("key")


@pytest.mark.parametrize("is_taken", [True, False])
async def test_what_a_leader_that_is_behind_refuses_is_done_once(
    shared: Any, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    await shared.incr("n")
    publish, refused = JetStreamContext.publish, []

    async def behind(self: Any, subject: str, *arguments: Any, **options: Any) -> Any:
        if len(refused) < 3:
            if is_taken:
                await publish(self, subject, *arguments, **options)
            refused.append(subject)
            raise BadRequestError(400, "wrong last sequence: 1", 10071)
        return await publish(self, subject, *arguments, **options)

    monkeypatch.setattr(JetStreamContext, "publish", behind)
    sums = [await shared.incr("n") for _ in range(4)]
    assert sums == [2, 3, 4, 5]
    refused.clear()
    assert await shared.delete("n") and await shared.get("n") is None


async def test_of_what_another_is_over_it_is_not_known_whether_it_was_done(
    shared: Any, another: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await shared.put("key", b"1")
    publish, refused = JetStreamContext.publish, []

    async def behind(self: Any, subject: str, *arguments: Any, **options: Any) -> Any:
        done = await publish(self, subject, *arguments, **options)
        if not refused:
            refused.append(subject)
            await another.put("key", b"another")
            raise BadRequestError(400, "wrong last sequence: 1", 10071)
        return done

    monkeypatch.setattr(JetStreamContext, "publish", behind)
    with pytest.raises(SharedDownError, match="cut off: it may have been done or not"):
        await shared.put("key", b"2", first)
    with pytest.raises(RevisionError):
        await shared.put("key", b"3", first)


async def test_who_was_refused_once_by_one_that_is_behind_stays_in_doubt(
    shared: Any, another: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await shared.put("key", b"1")
    publish, refused = JetStreamContext.publish, []

    async def behind(self: Any, subject: str, *arguments: Any, **options: Any) -> Any:
        if refused:
            return await publish(self, subject, *arguments, **options)
        refused.append(subject)
        raise BadRequestError(400, "wrong last sequence: 1", 10071)

    before = shared._last

    async def last(js: Any, key: str) -> Any:
        found = await before(js, key)
        if len(refused) == 1:  # the new leader takes it late, and another is over it
            refused.append("over")
            await another.put(key, b"another")
        return found

    monkeypatch.setattr(JetStreamContext, "publish", behind)
    monkeypatch.setattr(shared, "_last", last)
    with pytest.raises(SharedDownError, match="it may have been done or not"):
        await shared.put("key", b"2", first)


async def test_a_container_has_the_store_that_its_configuration_says(
    nats_server: NATSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await emptied(nats_server)
    worker = SimpleNamespace(runtime=SimpleNamespace(shared=tmp_path))
    container = Container({"shared": nats_server.url}, worker)
    await container.open_engines({})
    assert await container.shared.incr("n") == 1
    await container.close_made()
    away = Container({"shared": f"unix://{tmp_path}/nowhere"}, worker)
    await away.open_engines({})
    assert "the worker serves without it, and goes on trying" in caplog.text
    with pytest.raises(SharedDownError):
        await away.shared.get("n")
    await away.close_made()
