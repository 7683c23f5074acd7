"""Letters, and answers to them, that are lost on their way, as while the bus changes its server.

Who lives is never named as gone, and nothing is done twice; who is gone is named in its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

import pytest

from apihour.bus import NoResponderError
from apihour.errors import ApihourError
from apihour.ops.model import Command, Role
from apihour_console.calls.call import Result
from apihour_console.calls.parsing import parse_call
from apihour_console.hosts.letter_tickets import Tickets
from tests.apihour_console.hosts.fleet_support import Fleet
from tests.apihour_console.support import wait_until

IN_TIME = 1.5  # seconds; the login comes on top


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that meet do not wait for more of them."""
    monkeypatch.setattr("apihour_console.hosts.hosts._HELLO", 0.1)


def kind_of(letter: dict[str, Any]) -> str:
    """Of an answer to a command it is ``answer``, of one to ``how`` it is ``state``."""
    return str(letter.get("kind") or ("state" if "state" in letter else "answer"))


def lose(fleet: Fleet, *kinds: str) -> list[str]:
    """The next letters of those kinds are lost, one for each name; what is left to lose."""
    left = list(kinds)

    def loses(letter: dict[str, Any]) -> bool:
        if (kind := kind_of(letter)) not in left:
            return False
        left.remove(kind)
        return True

    fleet.wire.loses = loses
    return left


async def timed(fleet: Fleet, *words: str) -> tuple[Result, float]:
    began = time.monotonic()
    async with asyncio.timeout(30):
        return await fleet.run("web-1", *words, "--host", "all"), time.monotonic() - began


@pytest.mark.parametrize("lost", [
    ["ask"], ["answer"], ["ask", "how"], ["ask", "state"], ["answer", "how"], ["answer", "state"],
    ["ask", "answer"],
], ids=" ".join)
@pytest.mark.parametrize("word", ["workers", "kick", "reload"])
async def test_a_command_that_is_lost_once_each_way_is_answered_in_time_and_done_once(
    word: str, lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        left = lose(fleet, *lost)
        with caplog.at_level(logging.WARNING):
            found, took = await timed(fleet, word)
        assert left == []
        assert (found.status, found.missing) == (0, [])
        assert {row["host"] for row in found.rows} == {"web-1", "web-2"}
        assert fleet.doubles["web-2"].done == [word]
        assert len(fleet.doubles["web-2"].audit.recent()) == 1
        assert took < IN_TIME
        assert caplog.text == ""


async def test_a_command_that_is_lost_again_and_again_arrives_all_the_same() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        left = lose(fleet, "ask", "ask", "ask", "how")
        found, _ = await timed(fleet, "workers")
        assert (left, found.status) == ([], 0)


@pytest.mark.parametrize("lost", [["ping"], ["here"], ["ping", "ping"], ["ping", "here"]],
                         ids=" ".join)
async def test_a_ping_that_is_lost_names_nobody_as_gone(lost: list[str]) -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        left = lose(fleet, *lost)
        rows, missing = await fleet.hosts["web-1"].rows()
        assert (left, missing) == ([], [])
        assert [row.status for row in rows] == ["ok"] * 3
        left = lose(fleet, *lost)
        found, took = await timed(fleet, "kick")  # what acts is preceded by a ping
        assert (left, found.status) == ([], 0)
        assert took < IN_TIME
        assert [double.done for double in fleet.doubles.values()] == [["kick"]] * 3


@pytest.mark.parametrize("word", ["workers", "kick", "reload"])
async def test_nobody_who_listens_for_a_moment_is_nobody_gone(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NATS says it of a host that changes its server."""
    async with Fleet("web-1", "web-2") as fleet:
        bus = fleet.hosts["web-1"]._bus
        request, refused = bus.request, []

        async def refuse(*given: Any) -> Any:
            if len(refused) < 2 and kind_of(json.loads(given[1][64:])) in kinds:
                refused.append(given)
                raise NoResponderError("nobody")
            return await request(*given)

        monkeypatch.setattr(bus, "request", refuse)
        kinds = ["ask"]
        found, took = await timed(fleet, word)
        assert (len(refused), found.status) == (2, 0) and took < IN_TIME
        kinds = ["ping"]
        refused.clear()
        _, missing = await fleet.hosts["web-1"].rows()
        assert missing == []


async def test_who_is_gone_is_named_in_time_beside_one_whose_letter_was_lost() -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        fleet.wire.cut.add("web-3")
        for word, lost in (("workers", "ask"), ("kick", "ping")):
            lose(fleet, lost)
            found, took = await timed(fleet, word)
            assert found.status == 75
            assert [(one.worker, "is gone" in one.reason) for one in found.missing] == [
                ("web-3", True)]
            assert took < IN_TIME


async def test_who_is_slow_is_not_said_to_be_gone() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.doubles["web-2"].takes = 20.0
        fleet.doubles["web-1"].slow["workers"] = 0.0
        found, _ = await timed(fleet, "workers")
        assert found.status == 75
        assert [one.reason for one in found.missing] == [
            "it is there, and has not answered within 2.1 s"]
        assert fleet.doubles["web-2"].done == ["workers"]


@pytest.mark.parametrize("word", ["workers", "kick"])
async def test_a_letter_that_comes_after_it_was_sent_again_is_not_carried_out(
    word: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        far = fleet.hosts["web-2"]
        take, late = far._take, []

        async def delay(message: Any, letter: dict[str, Any]) -> None:
            if letter.get("kind") == "ask" and not late:
                late.append((message, letter))
            else:
                await take(message, letter)

        far._take = delay  # type: ignore[method-assign,assignment]
        found, _ = await timed(fleet, word)
        assert found.status == 0
        await take(*late[0])
        await wait_until(lambda: far.far_end is not None and not far.far_end._tasks)
        assert fleet.doubles["web-2"].done == [word]
        assert len(fleet.doubles["web-2"].audit.recent()) == 1
        assert caplog.text == ""


async def test_what_acts_is_not_sent_again_to_another_console(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        far = fleet.hosts["web-2"]

        def loses(letter: dict[str, Any]) -> bool:
            if kind_of(letter) != "ask":
                return False
            far._tickets = Tickets("another")
            return True

        fleet.wire.loses = loses
        found, _ = await timed(fleet, "kick")
        assert [one.worker for one in found.missing] == ["web-2"]
        assert fleet.doubles["web-2"].done == []
        assert sum("kick" in str(data) for _, data in fleet.wire.letters) == 1


async def test_an_applications_command_may_act_and_is_sent_with_a_ticket() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        for double in fleet.doubles.values():
            for role in (Role.OPERATOR, Role.OBSERVER):
                double.catalogue.add(Command(f"of-{role}", "own", role=role, deadline=1.0,
                                             application=True, collects="console"))
        asked = []

        def loses(letter: dict[str, Any]) -> bool:
            if kind_of(letter) == "ask":
                asked.append(letter["ticket"])
            return False

        fleet.wire.loses = loses
        for role in (Role.OPERATOR, Role.OBSERVER):
            assert (await timed(fleet, f"of-{role}"))[0].status == 0
        assert [ticket is not None for ticket in asked] == [True, False]


async def test_an_answer_that_is_too_large_to_be_kept_is_read_again() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        left = lose(fleet, "answer")
        found, _ = await timed(fleet, "big")
        assert left == []
        assert {row["host"] for row in found.rows} == {"web-1", "web-2"}
        assert fleet.doubles["web-2"].done == ["big", "big"]


@pytest.mark.parametrize("lost", ["ask", "answer"])
async def test_a_stream_whose_begin_was_lost_comes_once(lost: str) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        left = lose(fleet, lost)
        call = parse_call(["logs", "-f", "--host", "web-2"], fleet.doubles["web-1"].catalogue)
        seen = []
        async with asyncio.timeout(30), contextlib.aclosing(
                fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            async for row in rows:
                seen.append(row["message"])
                if len(seen) == 3:
                    break
        assert left == []
        assert seen == [f"web-2 {number}" for number in range(3)]
        assert len(fleet.doubles["web-2"].audit.recent()) == 1


@pytest.mark.parametrize("lost", [{"host", "time", "number"}, {"time", "number"}],
                         ids=["the question", "the answer"])
async def test_a_stream_goes_on_where_a_sign_of_who_reads_it_was_lost(
    lost: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour_console.hosts.far_end._HOLD", 0.6)
    async with Fleet("web-1", "web-2") as fleet:
        times: list[float] = []

        def loses(letter: dict[str, Any]) -> bool:
            if set(letter) == lost:
                times.append(letter["time"])
                return len(times) == 1
            return False

        fleet.wire.loses = loses
        call = parse_call(["logs", "-f", "--host", "web-2"], fleet.doubles["web-1"].catalogue)
        async with asyncio.timeout(30), contextlib.aclosing(
                fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            await anext(rows)
            await wait_until(lambda: len(times) >= 4)
            assert "end of stream" not in fleet.doubles["web-2"].done
        await wait_until(lambda: "end of stream" in fleet.doubles["web-2"].done)


# -- what the far end keeps


def ticketed(tickets: Tickets, nonce: str) -> dict[str, Any]:
    return {"nonce": nonce, "ticket": tickets.give()}


def test_what_is_under_way_is_never_forgotten_and_answers_are_bounded() -> None:
    tickets = Tickets("i")
    slow = ticketed(tickets, "slow")
    tickets.begin(slow)
    kept = ticketed(tickets, "kept")
    tickets.begin(kept)
    tickets.end(kept, {"rows": [1]}, 100)
    for number in range(1000):  # what is read pushes out nothing that acts
        tickets.begin(read := {"nonce": f"read {number}"})
        tickets.end(read, {"rows": []}, 90_000)
    assert tickets.answer("kept") == {"rows": [1], "instance": "i", "to": "kept", "state": "done"}
    assert not tickets.knows({"nonce": "read 5"})
    assert tickets._reads._size <= 1_000_000
    for number in range(1000):
        tickets.begin(deed := ticketed(tickets, f"deed {number}"))
        tickets.end(deed, {"rows": []}, 10)
    assert len(tickets._deeds._found) <= 64
    assert tickets.answer("slow")["state"] == "begun"
    assert tickets.answer("kept")["state"] == "unknown"


def test_an_answer_of_a_deed_that_is_too_large_says_so_and_it_is_not_done_again() -> None:
    tickets = Tickets("i")
    deed = ticketed(tickets, "n")
    tickets.begin(deed)
    tickets.end(deed, {"rows": [1], "missing": [], "status": 0}, 5_000_000)
    found = tickets.answer("n")
    assert (found["state"], found["status"], found["rows"]) == ("done", 75, [])
    assert "5,000,000 bytes" in found["missing"][0]["reason"]
    assert tickets.knows(deed)


def test_a_ticket_that_is_over_begins_nothing_and_a_letter_without_nonce_stands_alone() -> None:
    tickets = Tickets("i")
    for ticket, said in ((["other", 0.0], "another one by now"), (["i", 0.0], "nothing was begun")):
        with pytest.raises(ApihourError, match=said):
            tickets.begin({"nonce": "n", "ticket": ticket})
    assert not tickets.knows({"nonce": "n"})
    tickets.begin({})
    assert not tickets.knows({})
