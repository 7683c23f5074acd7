"""Subscriptions and connections that do not begin at once, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.bus import open_bus
from apihour.bus.bus_wire import HELLO, OUTBOX, SUBSCRIBE, frame
from apihour.bus.mailbox import Mailbox, Subscription
from apihour.bus.mesh import Caller
from apihour.bus.messages import BusMessage
from apihour.bus.nats_address import NATSAddress
from apihour.bus.nats_private import OrderedClient
from apihour.errors import BusDownError, BusError, ConfigurationError


class Slow:
    """A bus that takes its time to begin, or refuses."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.error: BusError | None = None
        self.ended: list[Mailbox] = []

    async def begin(self, mailbox: Mailbox) -> None:
        if self.error is not None:
            raise self.error
        await self.ready.wait()
        mailbox.deliver(BusMessage("a", b"1"))

    async def end(self, mailbox: Mailbox) -> None:
        self.ended.append(mailbox)
        mailbox.end()

    def drop(self, mailbox: Mailbox) -> None:
        self.ended.append(mailbox)


@pytest.fixture
async def slow() -> Slow:
    return Slow()


def subscribe(slow: Slow) -> Subscription[BusMessage]:
    return Subscription(slow, Mailbox("a", "", 8), gaps=False)


async def test_a_begin_that_was_cancelled_is_begun_again(slow: Slow) -> None:
    messages = subscribe(slow)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(messages), 0.01)
    slow.ready.set()
    assert (await asyncio.wait_for(anext(messages), 30)).data == b"1"


async def test_a_begin_that_was_refused_is_begun_again(slow: Slow) -> None:
    messages = subscribe(slow)
    slow.error = BusError("away")
    for _ in range(2):
        with pytest.raises(BusError, match="away"):
            await asyncio.wait_for(anext(messages), 30)
    slow.error = None
    slow.ready.set()
    assert (await asyncio.wait_for(anext(messages), 30)).data == b"1"


async def test_one_that_is_closed_while_it_begins_has_ended(slow: Slow) -> None:
    messages = subscribe(slow)
    waiting = asyncio.ensure_future(anext(messages, None))
    await asyncio.sleep(0)
    await messages.close()
    slow.ready.set()
    await asyncio.wait_for(waiting, 30)
    assert len(slow.ended) == 2, "what was begun after the end is ended, too"


@pytest.mark.parametrize(("most", "data"), [("ANSWERS", b""), ("ANSWERS_BYTES", b"1")])
async def test_who_answers_without_end_fills_no_memory(
    most: str, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"apihour.bus.questions.{most}", 3)
    bus = open_bus(None, tmp_path / "bus")

    async def answer(messages: Subscription[BusMessage]) -> None:
        question = await anext(messages)
        for _ in range(5):
            await question.reply(data)

    async with bus.subscribe("a") as messages:
        answering = asyncio.ensure_future(answer(messages))
        with pytest.raises(BusError, match="more than 3 answers"):
            await bus.gather("a", deadline=30)
        await answering
    await bus.close()


async def test_an_embedded_bus_closed_while_it_opens_keeps_nobody_waiting(tmp_path: Path) -> None:
    bus = open_bus(None, tmp_path / "bus")
    waiting = asyncio.ensure_future(anext(bus.subscribe("a")))
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(BusError, match="closed"):
        await asyncio.wait_for(waiting, 30)


class Unread:
    """A transport whose peer reads nothing."""

    def __init__(self) -> None:
        self.is_aborted = False
        self.waiting = OUTBOX
        self.written = b""

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, **limits: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True


def caller_of(transport: Unread) -> tuple[Caller, Unread]:
    """What a worker makes of one that connects by it."""
    mesh = SimpleNamespace(host=SimpleNamespace(subscriptions=lambda: [("a", "")]),
                           next_mark=lambda: 1, met=lambda name: None)
    caller = Caller(mesh)  # type: ignore[arg-type]
    caller.connection_made(transport)  # type: ignore[arg-type]
    return caller, transport


async def test_a_worker_that_cannot_be_told_of_a_subscription_has_to_come_again() -> None:
    caller, transport = caller_of(Unread())
    caller.on_frame(HELLO, b"0123456789abcdef")
    await asyncio.wait_for(caller.told(SUBSCRIBE, "a", ""), 30)
    assert transport.is_aborted, "it would never send what is subscribed to"


async def test_a_worker_that_has_not_said_who_it_is_hears_of_a_subscription_once() -> None:
    caller, transport = caller_of(Unread())
    transport.waiting = 0
    await asyncio.wait_for(caller.told(SUBSCRIBE, "a", ""), 30)
    caller.on_frame(HELLO, b"0123456789abcdef")
    assert transport.written.count(frame(SUBSCRIBE, b" a")) == 1


@contextlib.asynccontextmanager
async def nats_speaking(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
) -> AsyncIterator[str]:
    """The URL of what greets like a NATS server, and then does what `speak` does."""
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "A", "max_payload": 1048576, "proto": 1}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
                await speak(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("error", [
    "User Authentication Expired", "Maximum Connections Exceeded", "Authorization Violation"])
async def test_what_nats_says_before_it_hangs_up_does_not_end_the_bus_for_ever(
    error: str, tmp_path: Path
) -> None:
    times = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal times
        times += 1
        if times == 1:
            writer.write(f"-ERR '{error}'\r\n".encode())
            writer.close()

    async with nats_speaking(speak) as url:
        bus = open_bus(url, tmp_path)
        async with asyncio.timeout(30):
            await bus.publish("a", b"1")
            while times < 2:  # noqa: ASYNC110 - a server's word
                await asyncio.sleep(0.01)
            await bus.publish("a", b"2")
        await bus.close()


async def test_each_who_waits_hears_why_there_is_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*given: Any, **options: Any) -> None:
        raise OSError("no such seed")

    monkeypatch.setattr(OrderedClient, "connect", refuse)
    bus = open_bus("nats://127.0.0.1:1", tmp_path)
    said = await asyncio.wait_for(
        asyncio.gather(*(bus.publish("a", b"") for _ in range(3)), return_exceptions=True), 30)
    assert [type(error) for error in said] == [BusDownError] * 3, said
    await bus.close()


async def test_who_waits_for_nats_is_told_that_the_bus_is_closed(tmp_path: Path) -> None:
    bus = open_bus("nats://127.0.0.1:1", tmp_path)
    waiting = asyncio.ensure_future(anext(bus.subscribe("a")))
    await asyncio.sleep(0.05)
    await bus.close()
    with pytest.raises(BusError, match="closed"):
        await asyncio.wait_for(waiting, 30)


@pytest.mark.parametrize("url", ["nats://[::1:4222", "nats://one:fourty", "nats://one:70000"])
def test_a_place_that_is_none_is_refused_without_its_password(url: str) -> None:
    url = url.replace("//", "//me:hush@")
    with pytest.raises(ConfigurationError, match=r"expected nats://HOST:PORT") as refused:
        NATSAddress.read("bus", url, {})
    assert "hush" not in str(refused.value)
    assert os.linesep not in str(refused.value)


@pytest.mark.parametrize("options", [{}, {"queue": "q"}, {"queue": "q", "durable": True}])
async def test_a_loop_that_waits_for_nats_ends_with_its_worker(
    options: dict[str, Any], tmp_path: Path
) -> None:
    bus = open_bus("nats://127.0.0.1:1", tmp_path)

    async def listen() -> list[BusMessage]:
        return [message async for message in bus.subscribe("a", **options)]

    work = asyncio.create_task(listen())
    other = asyncio.create_task(listen())
    await asyncio.sleep(0.05)
    bus.retire(lambda task: task is work)
    assert await asyncio.wait_for(work, 30) == []
    assert other.done() is False or options
    other.cancel()
    await asyncio.wait({other})
    await asyncio.wait_for(bus.close(), 30)
