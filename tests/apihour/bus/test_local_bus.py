"""The bus between the workers of one daemon: several of them on one loop, and other processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from apihour.app.container import Container
from apihour.bus import Bus, Gap, open_bus
from apihour.errors import BusError, ConfigurationError, NoResponderError
from tests.contracts.bus_contract import BusContract, take


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "bus"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.01)


class TestLocalBus(BusContract):
    @pytest.fixture
    async def bus(self, directory: Path) -> AsyncIterator[Bus]:
        bus = open_bus(None, directory)
        yield bus
        await bus.close()

    @pytest.fixture
    async def another(self, bus: Bus, directory: Path) -> AsyncIterator[Bus]:
        another = open_bus(None, directory)
        yield another
        await another.close()


async def test_durable_is_refused_in_one_line_that_says_what_it_takes(directory: Path) -> None:
    bus = open_bus(None, directory)
    with pytest.raises(BusError) as published:
        await bus.publish("orders.new", b"1", durable=True)
    with pytest.raises(BusError) as subscribed:
        bus.subscribe("orders.>", queue="billing", durable=True)
    for refused, what in ((published, "subject 'orders.new'"), (subscribed, "pattern 'orders.>'")):
        assert str(refused.value) == (
            f"{what}: durable=True: the embedded bus stores nothing; expected bus: "
            "nats://HOST:PORT in the configuration, of a NATS with JetStream (pip install "
            "'apihour[nats]')")
    assert not directory.exists(), "nothing was opened for it"
    await bus.close()


_CHILD = """
import asyncio, sys
from apihour.bus import open_bus

async def main():
    bus = open_bus(None, sys.argv[1])
    async with bus.subscribe("ask") as asked, bus.subscribe("flood", gaps=True) as flood:
        print("ready", flush=True)
        await anext(asked)
        count = missed = 0
        async for event in flood:
            if hasattr(event, "missed"):
                print("gap", event.missed, "after", count, flush=True)
                missed += event.missed
            elif event.data == b"end":
                print("end", count, missed, flush=True)
            else:
                count += 1

asyncio.run(main())
"""


@pytest.fixture
def child(directory: Path) -> AsyncIterator[subprocess.Popen[str]]:
    """Another process on the bus, which has subscribed."""
    process = subprocess.Popen([sys.executable, "-c", _CHILD, str(directory)], text=True,
                               stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_one_that_is_killed_fails_what_it_was_asked_at_once(
    directory: Path, child: subprocess.Popen[str]
) -> None:
    bus = open_bus(None, directory)
    asking = asyncio.ensure_future(bus.request("ask", b"", timeout=600))
    await asyncio.wait({asking}, timeout=0.2)
    child.kill()
    with pytest.raises(NoResponderError, match=r"'ask'.*gone"):
        await asyncio.wait_for(asking, 30)
    with pytest.raises(NoResponderError, match="nobody subscribes"):
        await bus.request("ask", b"")
    second = open_bus(None, directory)  # finds the socket that was left, and removes it
    await second.publish("a", b"")
    await until(lambda: len(os.listdir(directory / "v1")) == 2)
    await bus.close()
    await second.close()
    assert os.listdir(directory / "v1") == []


async def test_one_that_is_stopped_holds_nobody_up_and_is_told(
    directory: Path, child: subprocess.Popen[str]
) -> None:
    bus = open_bus(None, directory)
    await bus.publish("ask", b"")
    sent = 1400
    async with bus.subscribe("flood", limit=sent) as here:
        child.send_signal(signal.SIGSTOP)
        for _ in range(sent):
            await bus.publish("flood", b"x" * 10_000)
        assert len(await take(here, sent)) == sent
        child.send_signal(signal.SIGCONT)
    assert child.stdout is not None
    gap = (await asyncio.wait_for(asyncio.to_thread(child.stdout.readline), 30)).split()
    assert (gap[0], gap[2]) == ("gap", "after")
    missed, count = int(gap[1]), int(gap[3])
    assert missed + count == sent
    assert 500 < count < 1100, "8 MB, and what the kernel holds"
    await bus.publish("flood", b"end")
    assert await asyncio.to_thread(child.stdout.readline) == f"end {count} {missed}\n"
    await bus.close()


async def test_a_newcomer_hears_of_all_subscriptions_however_many(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour.bus.bus_wire.OUTBOX", 300)
    one, two = (open_bus(None, directory) for _ in range(2))
    subscriptions = [one.subscribe(f"clients.{number}") for number in range(50)]
    for each in subscriptions:
        await each.__aenter__()
    for number, each in enumerate(subscriptions):
        await two.publish(f"clients.{number}", b"1")
        assert await take(each, 1) == [b"1"]
    await asyncio.gather(one.close(), two.close())


async def test_a_queue_group_passes_one_that_is_behind(
    directory: Path, child: subprocess.Popen[str]
) -> None:
    """Of 200 the one that is stopped would get a hundred."""
    bus = open_bus(None, directory)
    await bus.publish("ask", b"")
    async with bus.subscribe("work", queue="q") as here:
        child.send_signal(signal.SIGSTOP)
        for _ in range(1000):
            await bus.publish("flood", b"x" * 10_000)
        [neighbour] = bus._mesh.neighbours.values()  # type: ignore[attr-defined]
        assert neighbour.is_behind
        bus.theirs.add("work", "q", neighbour)  # type: ignore[attr-defined]
        for _ in range(200):
            await bus.publish("work", b"")
        assert len(await take(here, 200)) == 200
        child.kill()
    await bus.close()


async def test_the_directory_vanishes_and_comes_again(directory: Path) -> None:
    first = open_bus(None, directory)
    async with first.subscribe("a") as messages:
        for name in os.listdir(directory / "v1"):
            (directory / "v1" / name).unlink()
        (directory / "v1").rmdir()
        second = open_bus(None, directory)
        found = asyncio.ensure_future(anext(messages))
        async with asyncio.timeout(30):
            while not found.done():
                await second.publish("a", b"found")
                await asyncio.sleep(0.05)
        assert (await found).data == b"found"
    await first.close()
    await second.close()


@pytest.mark.parametrize("sent", [
    b"\xff\xff\xff\xff\x01", b"\0\0\0\0\0", b"\0\0\0\x01\x63", b"\0\0\0\x03\x01..",
    b"\0\0\0\x02\x02x", b"\0\0\0\x0f\x01../../../../x\n"])
async def test_what_cannot_be_read_ends_the_connection_alone(
    directory: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bus, other = open_bus(None, directory), open_bus(None, directory)
    async with other.subscribe("a") as messages:
        await bus.publish("a", b"1")
        name = bus._mesh.name  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_unix_connection(directory / "v1" / name)
        writer.write(sent)
        try:
            assert await asyncio.wait_for(reader.read(), 30) == b""
        except ConnectionResetError:
            pass
        writer.close()
        await bus.publish("a", b"2")
        assert await take(messages, 2) == [b"1", b"2"]
    assert "cannot be read" in caplog.text
    await bus.close()
    await other.close()


async def test_many_find_each_other(directory: Path) -> None:
    buses = [open_bus(None, directory) for _ in range(8)]
    await asyncio.gather(*(bus.publish("warm", b"") for bus in buses))
    subscriptions = [bus.subscribe("a") for bus in buses]
    await asyncio.gather(*(each.__aenter__() for each in subscriptions))
    for number, bus in enumerate(buses):
        await bus.publish("a", b"%d" % number)
    for each in subscriptions:
        assert sorted(await take(each, 8)) == [b"%d" % number for number in range(8)]
    await asyncio.gather(*(bus.close() for bus in buses))


async def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bus = open_bus(None, tmp_path / "file")
    with pytest.raises(BusError, match=r"file.*expected a directory"):
        await bus.publish("a", b"")
    await bus.close()


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="bus: 7"):
        open_bus(7, tmp_path)


def test_a_gap_says_where() -> None:
    assert repr(Gap("a.>", 3)) == "Gap(pattern='a.>', missed=3)"


async def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    container = Container({}, SimpleNamespace(runtime=SimpleNamespace(path=tmp_path)))
    assert container.bus.subscribe("a") is not None
    await container.close_made()
    assert os.listdir(tmp_path) == []
