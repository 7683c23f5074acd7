"""A reload of all hosts, broken in the middle: what is told is so, and nothing is done twice."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from apihour.bus import BusMessage
from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Call, Identity, Result
from apihour_console.fleet.host_rows import HostDeed
from apihour_console.hosts.claims import Claims
from tests.apihour_console.hosts.fleet_support import Fleet, HostDouble

SECONDS = {
    "asking._EVERY": 0.1, "asking._SILENT": 0.8, "asking.HEARS": 0.4,
    "insisting.AGAIN": 0.1, "hosts._HELLO": 0.4,
    "asking.FRESH": 0.5, "letter_tickets.FRESH": 0.5, "claims._EVERY": 0.1,
    "rolling_reload._JUDGED": 0.8, "rolling_reload._AGAIN": 0.05, "rolling_reload._PATIENCE": 0.4}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the time that things take."""
    for name, seconds in SECONDS.items():
        monkeypatch.setattr(f"apihour_console.hosts.{name}", seconds)


async def reload(fleet: Fleet, at: str = "a", give_back: bool = False) -> list[HostDeed]:
    deeds, missing = await asyncio.wait_for(fleet.hosts[at].reload(fleet.who, 1, give_back), 20)
    assert missing == []
    return deeds


def outcomes(deeds: list[HostDeed]) -> list[str]:
    return [one.outcome for one in deeds]


async def until_begun(double: HostDouble) -> None:
    async with asyncio.timeout(20):
        while "reload" not in double.done:  # noqa: ASYNC110 - the double tells nobody
            await asyncio.sleep(0.005)


def drop_answers(fleet: Fleet, host: str, count: int) -> None:
    """So many answers of that host to what takes long are lost on their way."""
    far = fleet.hosts[host].far_end
    assert far is not None
    take, left = far.take, [count]

    def taken(message: BusMessage, letter: dict[str, object], *more: object, **by: object) -> None:
        async def answer(data: bytes) -> None:
            left[0] -= 1
            if left[0] < 0:
                await message.reply(data)

        asked = letter["words"] == ["reload"]
        take(BusMessage(message.subject, message.data, answer) if asked else message,
             letter, *more, **by)  # type: ignore[arg-type]

    far.take = taken  # type: ignore[method-assign,assignment]


async def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_done_twice() -> None:
    async with Fleet("a", "b") as fleet:
        drop_answers(fleet, "b", 1)
        assert outcomes(await reload(fleet)) == ["done", "done"]
        assert fleet.doubles["b"].done.count("reload") == 1


@pytest.mark.parametrize(("then", "told"), [
    ({"reloads": 1}, "done"), ({"failed": 1}, "failed"), ({}, "unknown"),
    ({"arbiter": 2}, "unknown"),
])
async def test_a_console_that_is_killed_in_the_middle_leaves_it_to_the_counters(
    then: dict[str, int], told: str,
) -> None:
    async with Fleet("a", "b", "c") as fleet:
        far = fleet.doubles["b"]
        far.slow["reload"], far.counted = 60.0, {"arbiter": 1, "reloads": 0, "failed": 0}
        begun = asyncio.create_task(reload(fleet))
        await until_begun(far)
        old = fleet.hosts["b"]
        old._is_replaced = True  # it says no goodbye
        await old.close()
        far.slow, far.counted = {}, {"arbiter": 1, "reloads": 0, "failed": 0, **then}
        await fleet.join("b")
        deeds = await begun
        assert outcomes(deeds) == ["done", told, "done" if told == "done" else "not reached"]
        assert far.done.count("reload") == 1
        if told != "done":
            assert "no sign of it for 10 s" in deeds[1].error


async def test_a_host_that_is_silent_in_the_middle_is_not_waited_for_without_end() -> None:
    async with Fleet("a", "b") as fleet:
        far = fleet.doubles["b"]
        far.slow["reload"] = 60.0
        begun = asyncio.create_task(reload(fleet, give_back=True))
        await until_begun(far)
        fleet.wire.cut.add("b")
        deeds = await begun
        assert outcomes(deeds) == ["returned", "unknown"]
        assert "whether its reload was done is not known" in deeds[1].error


@pytest.mark.parametrize("far", ["a", "b"])
async def test_an_arbiter_that_ends_in_the_middle_leaves_unknown_what_became_of_it(
    far: str
) -> None:
    why = "reload: the arbiter ended before it answered; whether it was done is not known"
    async with Fleet("a", "b", "c") as fleet:
        double = fleet.doubles[far]
        execute = double.execute

        async def ended(call: Call, identity: Identity) -> Result:
            done = await execute(call, identity)
            return Result(status=75, error=why) if call.command.name == "reload" else done

        double.execute = ended  # type: ignore[method-assign]
        deeds = await reload(fleet, give_back=True)
        assert outcomes(deeds) == {"a": ["unknown", "not reached", "not reached"],
                                   "b": ["returned", "unknown", "not reached"]}[far]
        assert next(deed.error for deed in deeds if deed.host == far) == why
        assert double.done.count("reload") == 1
        assert "rollback" not in double.done


async def test_who_is_slow_and_says_so_is_waited_for() -> None:
    async with Fleet("a", "b") as fleet:
        fleet.doubles["b"].slow["reload"] = 1.2  # longer than a silent one is waited for
        assert outcomes(await reload(fleet)) == ["done", "done"]


async def test_a_host_that_was_stopped_begins_nothing_that_was_given_up() -> None:
    async with Fleet("a", "b") as fleet:
        far = fleet.hosts["b"]
        take, kept = far._take, []

        async def later(message: BusMessage, letter: dict[str, object]) -> None:
            if letter.get("kind") == "ask":
                kept.append((message, letter))
            else:
                await take(message, letter)

        far._take = later  # type: ignore[method-assign,assignment]
        deeds = await reload(fleet)
        assert outcomes(deeds) == ["done", "failed"]
        assert "nothing was begun" in deeds[1].error
        assert kept
        for message, letter in kept:
            await take(message, letter)
        await asyncio.sleep(0.1)
        assert "reload" not in fleet.doubles["b"].done


async def test_of_two_operators_at_two_hosts_one_reloads_and_the_other_is_told() -> None:
    async with Fleet("a", "b", "c") as fleet:
        for double in fleet.doubles.values():
            double.slow["reload"] = 0.1
        found = await asyncio.gather(
            *(reload(fleet, at) for at in ("b", "c")), return_exceptions=True)
        told = [str(one) for one in found if isinstance(one, CommandFailed)]
        done = [outcomes(one) for one in found if isinstance(one, list)]
        assert done == [["done"] * 3]
        assert len(told) == 1
        assert "the fleet is being reloaded by ann at host " in told[0]
        assert [double.done.count("reload") for double in fleet.doubles.values()] == [1, 1, 1]
        assert outcomes(await reload(fleet, "b")) == ["done"] * 3


def test_a_claim_that_was_given_back_is_not_taken_again_by_a_letter_that_comes_late() -> None:
    claims, of_ann = Claims(), {"id": "1", "by": "ann", "host": "a", "seconds": 6.0}
    assert claims.take(of_ann) == ""
    assert claims.take({**of_ann, "seconds": 0}) == ""
    assert claims.take(of_ann) == ""
    assert claims.take({"id": "2", "by": "bob", "host": "b", "seconds": 6.0}) == ""
    assert claims.take(of_ann) == "bob"


async def test_who_was_stopped_and_lost_its_claim_goes_no_further() -> None:
    async with Fleet("a", "b", "c") as fleet:
        far = fleet.doubles["a"]
        far.slow["reload"] = 0.3
        begun = asyncio.create_task(reload(fleet, "b"))
        await until_begun(far)
        claims = fleet.hosts["a"]._claims
        claims._until = 0.0  # as after six seconds without a word of it
        assert claims.take({"id": "another", "by": "bob at host c", "seconds": 10}) == ""
        deeds = await begun
        assert outcomes(deeds) == ["done", "failed", "not reached"]
        assert "by bob at host c; nothing was begun here" in deeds[1].error
        assert fleet.doubles["b"].done == []


async def test_what_a_killed_console_had_begun_keeps_nobody_off() -> None:
    async with Fleet("a", "b", "c") as fleet:
        claims = fleet.hosts["a"]._claims
        assert claims.take({"id": "1", "host": "b", "by": "bob at host b", "seconds": 60}) == ""
        with pytest.raises(CommandFailed, match="by bob at host b"):
            await reload(fleet, "c")
        fleet.hosts["b"]._is_replaced = True  # it says no goodbye
        await fleet.hosts["b"].close()
        await fleet.join("b")
        assert outcomes(await reload(fleet, "c")) == ["done"] * 3


async def test_nothing_is_begun_where_one_host_would_refuse_it() -> None:
    async with Fleet("a", "b", "c", role="operator") as fleet:
        fleet.lines["c"] = fleet.lines["c"].replace("operator", "observer")
        with pytest.raises(CommandFailed, match="begun: host c: reload: needs role") as raised:
            await reload(fleet)
        assert raised.value.kind == "role"
        fleet.lines["b"] = ""
        with pytest.raises(CommandFailed, match=r"host b: the key .* is not authorised here; host"):
            await reload(fleet)
        fleet.who = replace(fleet.who, fingerprint="")  # apihour ctl, on the first host
        with pytest.raises(CommandFailed, match="nothing was begun: host b: ann has no key"):
            await reload(fleet)
        assert [double.done for double in fleet.doubles.values()] == [[], [], []]
        far = fleet.hosts["b"].far_end
        assert far is not None
        assert "cannot be read" in far.refusal({"from": "a", "who": {}, "words": 3})


async def test_health_has_its_time_after_a_reload_that_took_long() -> None:
    async with Fleet("a", "b") as fleet:
        far = fleet.doubles["b"]
        far.slow["reload"] = 1.0  # more than the time that health has
        far.fails.add("health")
        begun = asyncio.create_task(reload(fleet))
        await until_begun(far)
        asyncio.get_running_loop().call_later(1.2, far.fails.clear)
        assert outcomes(await begun) == ["done", "done"]


@pytest.mark.parametrize(("fails", "told"), [
    ({"health"}, ["returned", "returned"]), ({"health", "rollback"}, ["returned", "failed"])])
async def test_a_host_that_is_not_well_since_is_rolled_back_too(
    fails: set[str], told: list[str],
) -> None:
    async with Fleet("a", "b") as fleet:
        fleet.doubles["b"].fails |= fails
        deeds = await reload(fleet, give_back=True)
        assert outcomes(deeds) == told
        assert fleet.doubles["b"].done.count("rollback") == 1
        assert ("not rolled back: rollback" in deeds[1].error) == ("rollback" in fails)
        assert "reloaded, and not" in deeds[1].error


async def test_who_hangs_up_begins_nothing_more_and_the_log_says_how_far_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Fleet("a", "b", "c") as fleet:
        fleet.doubles["b"].slow["reload"] = 0.3
        begun = asyncio.create_task(reload(fleet))
        await until_begun(fleet.doubles["b"])
        with caplog.at_level(logging.WARNING):
            begun.cancel()
            await asyncio.wait([begun])
        assert "by ann ended early: a done, b under way, c not reached" in caplog.text
        fleet.doubles["b"].slow.clear()
        began = time.monotonic()
        assert outcomes(await reload(fleet, "c")) == ["done"] * 3
        assert time.monotonic() - began < 10
        assert [one.done.count("reload") for one in fleet.doubles.values()] == [2, 2, 1]
