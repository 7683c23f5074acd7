"""Hosts of a fleet that lie, and strangers that repeat what they heard."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from apihour.bus import BusMessage
from apihour_console.calls.parsing import parse_call
from tests.apihour_console.hosts.fleet_support import Fleet, WiredBus
from tests.apihour_console.support import wait_until

EMPTY = {"columns": [["worker", "str"]], "rows": [], "missing": [], "status": 0, "text": None,
         "error": "", "detail": ""}
NONSENSE: list[dict[str, Any]] = [
    {"columns": 5}, {"columns": [["a"]]}, {"rows": [1, None]}, {"rows": "abc"}, {"rows": None},
    {"missing": [7]}, {"status": "x"}, {"status": 1e400}, {"status": 9**30},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
async def test_an_answer_that_cannot_be_read_is_the_failure_of_its_host_alone(
    nonsense: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        monkeypatch.setattr("apihour_console.hosts.far_end.to_letter",
                            lambda result: {**EMPTY, **nonsense})
        found = await fleet.run("web-1", "workers", "--host", "web-1,web-2")
        assert {row["host"] for row in found.rows} == {"web-1"}
        assert found.status == 1
        (missing,) = found.missing
        assert missing.worker == "web-2"
        assert missing.reason.startswith("its answer cannot be read (")


async def test_a_host_answers_for_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        monkeypatch.setattr("apihour_console.hosts.far_end.to_letter", lambda result: {
            **EMPTY, "rows": [{"host": "web-1", "worker": "9.9"}]})
        found = await fleet.run("web-1", "workers", "--host", "web-2")
        assert found.rows == [{"host": "web-2", "worker": "9.9"}]


async def test_facts_that_are_none_are_shown_as_nothing() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.hosts["web-2"].facts = lambda: {"workers": "x", "generation": None}
        rows, missing = await fleet.hosts["web-1"].rows()
        assert [(row.host, row.workers, row.generation) for row in rows] == [
            ("web-1", 2, 1), ("web-2", 0, 0)]
        assert missing == []


async def test_rows_that_are_none_do_not_end_a_stream_nor_come_from_another_host() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        call = parse_call(["logs", "-f", "--host", "all"], fleet.doubles["web-1"].catalogue)
        liar, bus = fleet.hosts["web-2"], WiredBus(fleet.wire, "web-2")
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(30), contextlib.aclosing(
                fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            async for row in rows:
                if not seen:
                    (subject,) = (one for one in fleet.wire.readers if "stream" in one)
                    for letter in (
                            {"host": "web-2", "row": 5}, {"row": {}},
                            {"host": "web-9", "end": True},
                            {"host": "web-9", "row": {"message": "of nobody"}},
                            {"host": "web-2", "row": {"host": "web-1", "message": "forged"}}):
                        await bus.publish(subject, liar._seal.close(subject, letter))
                seen.append(row)
                if row["message"] == "forged":
                    break
        assert row["host"] == "web-2"
        assert "of nobody" not in [one["message"] for one in seen]


async def test_a_stream_ends_when_the_key_is_taken_away_where_its_rows_come_from(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour_console.hosts.far_end._HOLD", 0.1)
    async with Fleet("web-1", "web-2") as fleet:
        call = parse_call(["logs", "-f", "--host", "web-2"], fleet.doubles["web-1"].catalogue)
        seen = []
        async with asyncio.timeout(30), contextlib.aclosing(
                fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            async for row in rows:
                fleet.lines["web-2"] = ""
                seen.append(row["message"])
        assert "is not authorised here" in seen[-1]
        await wait_until(lambda: "end of stream" in fleet.doubles["web-2"].done)


async def test_what_goes_on_without_end_is_not_collected_for_who_names_no_stream() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        asking = fleet.hosts["web-1"]._asking
        async with asyncio.timeout(30):
            found = await asking.ask("web-2", ["logs", "-f"], fleet.who, 1.0)
        assert found.status == 1
        assert found.error is not None
        assert "logs: goes on without end, and names no stream" in found.error
        assert fleet.doubles["web-2"].done == []
        assert (await asking.ask("web-2", ["logs"], fleet.who, 1.0)).status == 0


async def test_a_stranger_cannot_have_a_stream_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apihour_console.hosts.far_end._HOLD", 0.1)
    async with Fleet("web-1", "web-2") as fleet:
        number = "0" * 16
        await fleet.hosts["web-1"]._asking.ask("web-2", ["logs", "-f"], fleet.who, 1.0, number)

        async def stranger() -> None:
            async with WiredBus(fleet.wire, "x").subscribe(f"_apihour.hold.{number}") as holds:
                async for message in holds:
                    await message.reply(b"")

        async with asyncio.TaskGroup() as group:
            task = group.create_task(stranger())
            await wait_until(lambda: "end of stream" in fleet.doubles["web-2"].done)
            task.cancel()


@pytest.mark.parametrize("is_old", [True, False], ids=["by its clock", "by its ticket"])
async def test_the_next_console_does_not_say_that_the_one_before_has_begun_nothing(
    is_old: bool
) -> None:
    """A letter that came to the one before, and once more to this one."""
    async with Fleet("web-1", "web-2") as fleet:
        double, first = fleet.doubles["web-2"], fleet.hosts["web-2"]
        assert first.far_end is not None
        take, came = first.far_end.take, []

        def taken(message: BusMessage, letter: Any, *more: Any, **by: Any) -> None:
            came.append((message, letter))
            take(message, letter, *more, **by)

        first.far_end.take = taken  # type: ignore[method-assign,assignment]
        double.slow["kick"] = 60.0
        running = asyncio.create_task(fleet.run("web-1", "kick", "--host", "web-2"))
        await wait_until(lambda: "kick" in double.done)
        first._is_replaced = True  # it says no goodbye
        await first.close()
        second = await fleet.join("web-2")
        assert second.far_end is not None
        second.far_end.take(*came[0], second._tickets, is_old=is_old)
        found = await running
        assert found.status == 75
        assert "whether the one before has begun it is not known" in found.missing[0].reason
        assert double.done == ["kick"]


async def test_the_next_console_obeys_nothing_that_was_overheard_before_it_began() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        first = await fleet.join("web-2", home="machine")
        await fleet.run("web-1", "reload", "--host", "web-2")
        for old in (first, fleet.hosts["web-1"]):
            await old.close()
        overheard = list(fleet.wire.letters)
        fleet.doubles["web-2"].done.clear()
        third = await fleet.join("web-2", home="machine")
        third.members.hear("web-1")
        stranger = WiredBus(fleet.wire, "stranger")
        for subject, data in overheard:
            await stranger.gather(subject, data, 0.05)
        assert fleet.doubles["web-2"].done == []
        assert not third._is_replaced
        assert "web-1" in third.members.names()
