"""The bus on a real NATS, its JetStream, and what happens while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import nats
import pytest
from nats.js.errors import APIError

from apihour.bus import Bus, Gap, open_bus
from apihour.bus.durable import publish_durable
from apihour.errors import BusDownError, BusError, BusTimeoutError, ConfigurationError
from tests.contracts.bus_contract import BusContract, take
from tests.nats_server import NATSServer, lonely_nats, nats_server

__all__ = ["lonely_nats", "nats_server"]


@pytest.fixture
async def bus(nats_server: NATSServer, tmp_path: Path) -> AsyncIterator[Bus]:
    bus = open_bus(nats_server.url, tmp_path)
    yield bus
    await bus.close()


@pytest.fixture
async def another(nats_server: NATSServer, tmp_path: Path) -> AsyncIterator[Bus]:
    another = open_bus({"url": nats_server.url}, tmp_path)
    yield another
    await another.close()


@pytest.fixture
async def stream(nats_server: NATSServer) -> AsyncIterator[Any]:
    """A stream for ``orders.>``; yields nats-py's JetStream."""
    client = await nats.connect(nats_server.url)
    js = client.jetstream()
    await js.add_stream(name="ORDERS", subjects=["orders.>"])
    yield js
    await js.delete_stream("ORDERS")
    await client.close()


class TestNATSBus(BusContract):
    @pytest.fixture
    async def bus(self, nats_server: NATSServer, tmp_path: Path) -> AsyncIterator[Bus]:
        bus = open_bus(nats_server.url, tmp_path)
        yield bus
        await bus.close()

    @pytest.fixture
    async def another(self, nats_server: NATSServer, tmp_path: Path) -> AsyncIterator[Bus]:
        another = open_bus({"url": nats_server.url}, tmp_path)
        yield another
        await another.close()


async def test_a_server_that_is_away_and_comes_again(
    nats_server: NATSServer, bus: Bus, another: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async with another.subscribe("a", gaps=True) as messages:
        await bus.publish("a", b"1")
        assert await take(messages, 1) == [b"1"]
        nats_server.halt(signal.SIGKILL)
        with pytest.raises(BusError):
            await asyncio.wait_for(bus.request("a", b"", timeout=0.5), 30)
        nats_server.start()
        assert await take(messages, 1) == [Gap("a", None)]
        async with asyncio.timeout(30):
            while True:
                try:
                    await bus.publish("a", b"2")
                except BusError:
                    continue
                break
        while await take(messages, 1) != [b"2"]:
            pass
    assert "the connection is lost" in caplog.text
    assert "may have missed messages" in caplog.text


async def test_a_server_that_never_was(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("apihour.bus.nats_bus.PATIENCE", 0.2)
    bus = open_bus("nats://127.0.0.1:1", tmp_path)
    with pytest.raises(BusDownError, match=r"nats://127\.0\.0\.1:1: not connected within 0\.2 s"):
        await bus.publish("a", b"")
    with pytest.raises(BusError, match=r"not connected within 0\.1 s: .*[Cc]onn"):
        await bus.request("a", b"", timeout=0.1)
    await asyncio.wait_for(bus.close(), 30)


async def test_what_is_stored_is_there_for_who_comes_later(
    stream: Any, bus: Bus, another: Bus
) -> None:
    for number in range(40):
        await bus.publish("orders.new", b"%d" % number, durable=True)
    seen = []
    async with another.subscribe("orders.>", queue="billing", durable=True) as orders:
        async for order in orders:
            seen.append(int(order.data))
            if len(seen) <= 10:
                await order.ack()
            if len(seen) == 12:
                break
    assert seen == list(range(12))
    info = await stream.consumer_info("ORDERS", "billing")
    assert info.num_pending + info.num_ack_pending >= 28
    again = bus.subscribe("orders.>", queue="billing", durable=True)
    rest = []
    async with asyncio.timeout(60):
        async for order in again:
            await order.ack()
            rest.append(int(order.data))
            if len(rest) == 28:  # but for 10 and 11, which were taken: they come in 30 s
                break
    assert sorted(rest) == list(range(12, 40))
    await again.close()


@pytest.mark.parametrize("what", ["consumer", "stream"])
async def test_a_durable_loop_whose_place_is_deleted_ends_with_an_error(
    what: str, nats_server: NATSServer, bus: Bus, monkeypatch: Any
) -> None:
    monkeypatch.setattr("apihour.bus.durable._WAIT", 0.5)
    client = await nats.connect(nats_server.url)
    js = client.jetstream()
    await js.add_stream(name="GOODS", subjects=["goods.>"])
    await bus.publish("goods.a", b"1", durable=True)
    messages = bus.subscribe("goods.>", queue="billing", durable=True)
    await (await anext(messages)).ack()
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0)
    if what == "consumer":
        await js.delete_consumer("GOODS", "billing")
    else:
        await js.delete_stream("GOODS")
    with pytest.raises(BusError, match=r"durable 'billing': deleted from JetStream .*'GOODS'"):
        await asyncio.wait_for(waiting, 30)
    if what == "consumer":
        again = bus.subscribe("goods.>", queue="billing", durable=True)
        assert (await asyncio.wait_for(anext(again), 30)).data == b"1"
        await again.close()
        await js.delete_stream("GOODS")
    await client.close()


@pytest.mark.parametrize("last", ["x", "²"])
async def test_what_is_no_answer_is_said_in_one_line(
    last: str, bus: Any, another: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async with another.subscribe("ask") as asked:
        first = asyncio.ensure_future(bus.request("ask", b"", timeout=30))
        await (await anext(asked)).reply(b"yes")
        await first
        for _ in range(20):
            await another.publish(f"{bus._inbox}.{last}", b"")
        second = asyncio.ensure_future(bus.request("ask", b"", timeout=30))
        await (await anext(asked)).reply(b"again")
        assert (await second).data == b"again"
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1, said
    assert "not an answer, thrown away: subject '_INBOX." in said[0]


async def test_a_durable_loop_ends_with_its_worker(stream: Any, bus: Bus) -> None:
    async def listen() -> list[bytes]:
        seen = []
        async for order in bus.subscribe("orders.*", queue="q", durable=True):
            await order.ack()
            seen.append(order.data)
            bus.retire(lambda task: False)
        return seen

    await bus.publish("orders.a", b"1", durable=True)
    assert await asyncio.wait_for(listen(), 60) == [b"1"]


async def test_a_durable_loop_that_has_ended_leaves_no_subscription_behind(
    stream: Any, bus: Bus
) -> None:
    await bus.publish("orders.a", b"1", durable=True)
    carrier: Any = bus
    client = await carrier._client(30)
    before = set(client._subs)
    async with asyncio.timeout(60):
        async with bus.subscribe("orders.*", queue="ended", durable=True) as orders:
            await (await anext(orders)).ack()
            assert set(client._subs) > before
    assert {client._subs[one].subject for one in set(client._subs) - before} <= {
        f"{client._resp_sub_prefix.decode()}*"}


async def test_every_acknowledged_message_survives_the_server(
    nats_server: NATSServer, stream: Any, bus: Bus, another: Bus
) -> None:
    stored, halted = [], asyncio.Event()

    async def send() -> None:
        for number in range(60):
            await bus.publish("orders.x", b"%d" % number, durable=True)
            stored.append(number)
            if number == 30:
                halted.set()

    sending = asyncio.ensure_future(send())
    await halted.wait()
    nats_server.halt(signal.SIGKILL)
    nats_server.start()
    await asyncio.wait_for(sending, 60)
    seen = []
    async with asyncio.timeout(60):
        async for order in another.subscribe("orders.>", queue="all", durable=True):
            await order.ack()
            seen.append(int(order.data))
            if len(set(seen)) == len(stored):
                break
    assert sorted(set(seen)) == stored == list(range(60))


async def test_durable_without_a_stream_or_a_name(bus: Bus, monkeypatch: Any) -> None:
    monkeypatch.setattr("apihour.bus.durable.PATIENCE", 0.5)
    with pytest.raises(BusError, match=r"'lost\.a': no stream of JetStream has it"):
        await bus.publish("lost.a", b"", durable=True)
    with pytest.raises(BusError, match=r"'lost\.>': no stream of JetStream has it"):
        await anext(bus.subscribe("lost.>", queue="q", durable=True))
    with pytest.raises(BusError, match="needs queue=NAME"):
        bus.subscribe("lost.>", queue="", durable=True)


async def test_stored_or_not_is_said_when_it_is_not_known(
    nats_server: NATSServer, stream: Any, bus: Bus, monkeypatch: Any
) -> None:
    monkeypatch.setattr("apihour.bus.durable.PATIENCE", 0.3)
    monkeypatch.setattr("apihour.bus.durable._TRY", 0.2)
    await bus.publish("orders.a", b"", durable=True)
    nats_server.freeze()
    try:
        with pytest.raises(BusTimeoutError, match="not stored within"):
            await asyncio.wait_for(bus.publish("orders.a", b"", durable=True), 30)
    finally:
        nats_server.thaw()


async def test_a_durable_loop_waits_for_a_cluster_without_a_leader(
    lonely_nats: NATSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr("apihour.bus.durable._TRY", 0.5)
    bus = open_bus(lonely_nats.url, tmp_path)
    messages = bus.subscribe("orders.>", queue="billing", durable=True)
    first = asyncio.ensure_future(anext(messages))
    async with asyncio.timeout(60):
        while "temporarily unavailable" not in caplog.text and "timeout" not in caplog.text:
            assert not first.done(), first
            await asyncio.sleep(0.05)
    other = await nats.connect(lonely_nats.alone().url)
    await other.jetstream().add_stream(name="ORDERS", subjects=["orders.>"])
    await other.jetstream().publish("orders.a", b"1")
    message = await asyncio.wait_for(first, 60)
    assert message.data == b"1"
    await message.ack()
    await bus.close()
    await other.close()


async def test_a_message_that_is_being_stored_is_not_said_to_be_refused() -> None:
    answers = [TimeoutError(), APIError(
        code=409, description="duplicate message id is in process"), None]
    client = Mock()
    client.jetstream.return_value.publish = AsyncMock(side_effect=answers)
    await publish_durable(client, "orders.a", b"1")
    ids = {str(one.kwargs["headers"]) for one in
           client.jetstream.return_value.publish.await_args_list}
    assert len(ids) == 1


async def test_what_nobody_answers_for_is_not_said_to_have_no_stream(
    lonely_nats: NATSServer, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("apihour.bus.durable.PATIENCE", 0.5)
    bus = open_bus(lonely_nats.url, tmp_path)
    with pytest.raises(BusDownError, match=r"'orders\.a': not stored: nobody has answered"):
        await bus.publish("orders.a", b"", durable=True)
    await bus.close()


async def test_a_connection_that_takes_nothing_any_more_is_replaced(
    nats_server: NATSServer, tmp_path: Path, another: Bus
) -> None:
    """What was written to it could wait for a quarter of an hour before it is given up."""
    async with Stuck(nats_server.port) as way, another.subscribe("a") as messages:
        bus = open_bus(f"nats://127.0.0.1:{way.port}", tmp_path)
        await bus.publish("a", b"1")
        assert await take(messages, 1) == [b"1"]
        way.stick()
        sending = [asyncio.ensure_future(bus.publish("b", bytes(1_000_000))) for _ in range(40)]
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(BusError):
                    await bus.request("nobody", b"", timeout=0.2)
                    break
                if way.connections > 1:
                    break
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await bus.close()


class Stuck:
    """A way to a server whose connections can be made to carry nothing more; new ones do."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flows: list[asyncio.Task[None]] = []
        self.connections = self.port = 0

    async def __aenter__(self) -> Stuck:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.stick()
        await asyncio.gather(*self._flows, return_exceptions=True)

    def stick(self) -> None:
        for flow in self._flows:
            flow.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there = await asyncio.open_connection("127.0.0.1", self._target)
        self._kept = [*getattr(self, "_kept", []), writer, there[1]]
        self._flows += [asyncio.ensure_future(self._flow(*ends)) for ends in (
            (reader, there[1]), (there[0], writer))]

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.parametrize(("config", "said"), [
    ("http://x", "bus: 'http://x'; expected nats://HOST:PORT"),
    ({"url": "nats://"}, "expected nats://HOST:PORT"),
    ({"url": "nats://x", "durable": True}, "'durable'; expected of credentials, tls, url"),
    ({"url": "nats://x", "credentials": "/nowhere"}, "credentials: '/nowhere'; expected a file"),
    ({"url": "nats://x", "tls": {"ca": "/nowhere"}}, "tls: {'ca': '/nowhere'}"),
    ({"url": "nats://x", "tls": {"crt": "x"}}, "expected ca, cert and key"),
    ({"url": "env:NOT_SET"}, "env:NOT_SET: the variable is not set"),
    ({"url": "nats://u:hidden-word@x,ftp://u:hidden-word@y"}, "ftp://"),
])
def test_configurations_that_are_refused(config: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_bus(config, tmp_path)
    assert said in str(refused.value)
    assert "hidden-word" not in str(refused.value)


def test_nats_py_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nats", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'apihour\[nats\]'"):
        open_bus("nats://x", tmp_path)
