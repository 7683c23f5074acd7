"""What every engine of ``container.bus`` must do, as tests to inherit.

An engine's author subclasses :class:`BusContract` in a test module and gives two fixtures::

    class TestNATS(BusContract):
        @pytest.fixture
        async def bus(self): ...
        @pytest.fixture
        async def another(self, bus): ...     # of another process, or as good as
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apihour.bus import Bus, BusMessage, Gap, Subscription
from apihour.errors import BusError, BusTimeoutError, NoResponderError


async def take(subscription: Subscription[Any], number: int) -> list[Any]:
    """The data of the next `number` messages; a gap as it is."""
    async with asyncio.timeout(30):
        found = [await anext(subscription) for _ in range(number)]
    return [item.data if isinstance(item, BusMessage) else item for item in found]


class BusContract:
    """The tests."""

    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        raise NotImplementedError("an engine's test class gives this fixture")
        yield

    @pytest.fixture
    async def another(self, bus: Bus) -> AsyncIterator[Bus]:
        raise NotImplementedError("an engine's test class gives this fixture")
        yield

    async def test_what_is_published_reaches_all_in_order(self, bus: Bus, another: Bus) -> None:
        async with bus.subscribe("a.b") as here, another.subscribe("a.b") as there:
            for number in range(200):
                await bus.publish("a.b", b"%d" % number)
            await bus.publish("a.c", b"not theirs")
            await bus.publish("a.b")
            wanted = [*(b"%d" % number for number in range(200)), b""]
            assert await take(here, 201) == wanted
            assert await take(there, 201) == wanted

    @pytest.mark.parametrize(("pattern", "gets"), [
        ("a.*", ["a.b"]), ("a.>", ["a.b", "a.b.c"]), (">", ["a", "a.b", "a.b.c", "x.b"]),
        ("*.b", ["a.b", "x.b"]), ("*.*.c", ["a.b.c"]), ("a.b.c", ["a.b.c"]), ("*", ["a"]),
    ])
    async def test_wildcards(self, bus: Bus, another: Bus, pattern: str, gets: list[str]) -> None:
        async with another.subscribe(pattern) as messages:
            for subject in ("a", "a.b", "a.b.c", "x.b"):
                await bus.publish(subject, subject.encode())
            assert [name.decode() for name in await take(messages, len(gets))] == gets
            assert not messages.missed

    @pytest.mark.parametrize("subject", [
        "", "a b", "a..b", ".a", "a.", "a\nb", "a.*", ">", "a" * 201, "\0", 7])
    async def test_bad_subjects(self, bus: Bus, subject: Any) -> None:
        for sending in (bus.publish(subject, b""), bus.request(subject, b""),
                        bus.gather(subject, b"", 0.1)):
            with pytest.raises(BusError, match="subject"):
                await sending

    @pytest.mark.parametrize("pattern", ["", "a b", "a..b", "a.>.b", "a" * 201])
    async def test_bad_patterns(self, bus: Bus, pattern: str) -> None:
        with pytest.raises(BusError, match="pattern"):
            bus.subscribe(pattern)

    @pytest.mark.parametrize("queue", ["a b", "a.b", "*", "q" * 61])
    async def test_bad_queues(self, bus: Bus, queue: str) -> None:
        with pytest.raises(BusError, match="queue"):
            bus.subscribe("a", queue=queue)

    async def test_a_limit_that_is_none(self, bus: Bus) -> None:
        with pytest.raises(BusError, match="limit 0"):
            bus.subscribe("a", limit=0)

    async def test_data_of_every_size(self, bus: Bus, another: Bus) -> None:
        async with another.subscribe("a") as messages:
            for size in (0, 1, 70_000, 1_000_000):
                await bus.publish("a", bytes(range(256)) * (size // 256) + b"x" * (size % 256))
                [data] = await take(messages, 1)
                assert len(data) == size
            for data, said in ((b"x" * 1_000_001, "1000001"), ("text", "bytes")):
                with pytest.raises(BusError, match=said):
                    await bus.publish("a", data)  # type: ignore[arg-type]

    async def test_a_queue_group_has_each_message_once(self, bus: Bus, another: Bus) -> None:
        seen: Counter[str] = Counter()
        got: list[bytes] = []

        async def listen(name: str, messages: Subscription[BusMessage]) -> None:
            async for message in messages:
                seen[name] += 1
                got.append(message.data)

        async with (bus.subscribe("job.*", queue="q") as one, another.subscribe(
                "job.>", queue="q") as two, another.subscribe("job.*") as every):
            tasks = [asyncio.ensure_future(listen(name, each))
                     for name, each in (("here", one), ("there", two))]
            for number in range(200):
                await bus.publish("job.a", b"%d" % number)
            assert len(await take(every, 200)) == 200
            async with asyncio.timeout(30):
                while len(got) < 200:  # noqa: ASYNC110 - both count
                    await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        assert sorted(map(int, got)) == list(range(200))
        assert min(seen.values()) > 20, seen

    async def test_request(self, bus: Bus, another: Bus) -> None:
        async with another.subscribe("add") as messages:
            asking = asyncio.ensure_future(bus.request("add", b"1", timeout=30))
            message = await anext(messages)
            assert (message.data, message.is_request) == (b"1", True)
            await message.reply(b"2")
            answer = await asking
            assert (answer.subject, answer.data, answer.is_request) == ("add", b"2", False)
            await bus.publish("add", b"3")
            message = await anext(messages)
            assert not message.is_request
            with pytest.raises(BusError, match="nobody waits"):
                await message.reply(b"4")

    async def test_nobody_to_answer_is_known_at_once(self, bus: Bus, another: Bus) -> None:
        began = time.monotonic()
        with pytest.raises(NoResponderError, match=r"'nothing\.here'"):
            await bus.request("nothing.here", b"", timeout=60)
        assert await bus.gather("nothing.here", b"", deadline=60) == []
        assert time.monotonic() - began < 30

    @pytest.mark.parametrize(
        "seconds", [None, 0, -1, float("nan"), float("inf"), "1", True, {}], ids=repr)
    async def test_what_are_no_seconds_is_refused(
        self, bus: Bus, another: Bus, seconds: Any
    ) -> None:
        async with another.subscribe("slow"):
            with pytest.raises(BusError, match=r"'slow': timeout .*, expected seconds above 0"):
                await bus.request("slow", b"", timeout=seconds)
            with pytest.raises(BusError, match=r"'slow': deadline .*, expected seconds above 0"):
                await bus.gather("slow", b"", deadline=seconds)

    async def test_no_answer_in_time(self, bus: Bus, another: Bus) -> None:
        async with another.subscribe("slow") as messages:
            with pytest.raises(BusTimeoutError, match=r"'slow'.*0\.05 s"):
                await bus.request("slow", b"1", timeout=0.05)
            await (await anext(messages)).reply(b"late")  # harms nobody

    async def test_gather(self, bus: Bus, another: Bus) -> None:
        async def answer(messages: Subscription[BusMessage], name: bytes) -> None:
            async for message in messages:
                await message.reply(name + message.data)

        async with bus.subscribe("who") as one, another.subscribe("who") as two:
            tasks = [asyncio.ensure_future(answer(each, name))
                     for each, name in ((one, b"1"), (two, b"2"))]
            found = await bus.gather("who", b"?", deadline=30, expect=2)
            assert sorted(message.data for message in found) == [b"1?", b"2?"]
            began = time.monotonic()
            found = await bus.gather("who", b"!", deadline=0.3)
            assert time.monotonic() - began > 0.25
            assert sorted(message.data for message in found) == [b"1!", b"2!"]
        await asyncio.gather(*tasks)

    async def test_a_slow_subscriber_is_told_and_holds_nobody_up(
        self, bus: Bus, another: Bus
    ) -> None:
        async with (another.subscribe("n", gaps=True, limit=10) as slow,
                    another.subscribe("n") as quick, bus.subscribe("n") as here):
            for number in range(1000):
                await bus.publish("n", b"%d" % number)
            wanted = [b"%d" % number for number in range(1000)]
            assert await take(quick, 1000) == wanted
            assert await take(here, 1000) == wanted
            seen = await take(slow, 11)
            assert seen == [*wanted[:10], Gap("n", 990)]
            assert slow.missed == 990
            await bus.publish("n", b"on")
            assert await take(slow, 1) == [b"on"]

    async def test_a_gap_is_in_the_log_when_it_is_not_asked_for(
        self, bus: Bus, another: Bus, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with another.subscribe("n", limit=1) as slow, another.subscribe("n") as quick:
            for number in range(5):
                await bus.publish("n", b"%d" % number)
            await take(quick, 5)
            assert await take(slow, 1) == [b"0"]
            await bus.publish("n", b"on")
            assert await take(slow, 1) == [b"on"]
            assert slow.missed == 4
        assert caplog.text.count("the subscription to 'n' is too slow") == 1

    async def test_what_is_on_its_way_is_delivered_when_a_subscription_ends(
        self, bus: Bus, another: Bus
    ) -> None:
        messages = another.subscribe("a", queue="q")
        async with messages:
            for number in range(500):
                await bus.publish("a", b"%d" % number)
            assert await bus.gather("nobody.here", b"", deadline=30) == []  # all of it is sent
        found = [message.data async for message in messages]
        assert found == [b"%d" % number for number in range(len(found))]
        assert len(found) == 500
        with pytest.raises(NoResponderError):
            await bus.request("a", b"", timeout=30)

    async def test_a_loop_that_is_left_ends_its_subscription(
        self, bus: Bus, another: Bus
    ) -> None:
        async def leave() -> None:
            async for _ in another.subscribe("a"):
                break

        leaving = asyncio.ensure_future(leave())
        async with asyncio.timeout(30):
            while not leaving.done():
                await bus.publish("a", b"")
                await asyncio.sleep(0.01)
            while True:
                try:
                    await bus.request("a", b"", timeout=0.01)
                except NoResponderError:
                    break
                except BusTimeoutError:
                    await asyncio.sleep(0.01)

    async def test_a_worker_that_retires_leaves_queue_groups_and_ends_its_work(
        self, bus: Bus, another: Bus
    ) -> None:
        async def listen(messages: Subscription[BusMessage], seen: list[bytes]) -> None:
            async for message in messages:
                seen.append(message.data)

        group, work = another.subscribe("a", queue="q"), another.subscribe("a")
        seen: tuple[list[bytes], list[bytes]] = ([], [])
        tasks = [asyncio.ensure_future(listen(each, into))
                 for each, into in zip((group, work), seen, strict=True)]
        async with another.subscribe("a") as other:
            async with asyncio.timeout(30):
                while not all(seen):
                    await bus.publish("a", b"first")
                    await asyncio.sleep(0.01)
            another.retire(lambda task: task is tasks[1])
            await asyncio.wait_for(asyncio.gather(*tasks), 30)
            await bus.publish("a", b"last")
            while await take(other, 1) != [b"last"]:
                pass
        assert b"last" not in seen[0] + seen[1]

    async def test_close(self, bus: Bus, another: Bus) -> None:
        listening = asyncio.ensure_future(anext(another.subscribe("b"), None))
        silent = bus.subscribe("a")
        await silent.__aenter__()
        asking = asyncio.ensure_future(another.request("a", b"", timeout=60))
        assert await take(silent, 1) == [b""]
        await another.close()
        await another.close()
        assert await asyncio.wait_for(listening, 30) is None
        with pytest.raises(BusError):
            await asyncio.wait_for(asking, 30)
        with pytest.raises(BusError, match="closed"):
            await another.publish("a", b"")
        with pytest.raises(BusError, match="closed"):
            await anext(another.subscribe("a"))
        await bus.publish("a", b"nobody")
