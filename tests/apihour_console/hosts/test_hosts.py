"""The shell over a fleet: who is asked, who is missing, and who may not ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.errors import BusError, UsageError
from apihour.ops.model import Command, CommandFailed, Role
from apihour_console.calls.parsing import parse_call
from apihour_console.fleet.live_values import Values
from apihour_console.hosts.letters import Seal
from tests.apihour_console.hosts.fleet_support import KEY, Fleet, HostDouble, WiredBus
from tests.apihour_console.support import wait_until


async def test_every_host_answers_and_its_rows_say_whose_they_are() -> None:
    async with Fleet("web-1", "web-2", "db-1") as fleet:
        for at in ("web-1", "db-1"):
            found = await fleet.run(at, "workers", "--host", "all")
            assert found.status == 0
            assert [(row["host"], row["worker"]) for row in found.rows] == [
                (host, worker) for host in ("db-1", "web-1", "web-2") for worker in ("1.1", "2.1")]
            assert found.columns[0].name == "host"
        found = await fleet.run("web-1", "workers", "--host", "web-*", "--limit", "3", "--sort",
                                "-pid")
        assert [row["pid"] for row in found.rows] == [2, 2, 1]
        found = await fleet.run("web-1", "stack", "@web-2:1.1")
        assert found.rows == [{"host": "web-2", "worker": "1.1", "pid": 1}]
        assert fleet.doubles["web-1"].done.count("stack") == 0
        asked: Any = SimpleNamespace(hosts=fleet.hosts["web-1"])
        assert await Values(asked).of("host") == ["db-1", "web-1", "web-2"]
        asked.hosts = None
        assert await Values(asked).of("host") == []


async def test_a_host_that_is_gone_is_named_within_two_seconds() -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        fleet.wire.cut.add("web-3")
        began = asyncio.get_running_loop().time()
        found = await fleet.run("web-1", "workers", "--host", "all")
        assert asyncio.get_running_loop().time() - began < 1.5  # the login comes on top
        assert found.status == 75
        assert [(one.what, one.worker) for one in found.missing] == [("host", "web-3")]
        assert {row["host"] for row in found.rows} == {"web-1", "web-2"}
        rows, missing = await fleet.hosts["web-2"].rows()
        assert [(row.host, row.status) for row in rows] == [
            ("web-1", "ok"), ("web-2", "ok"), ("web-3", "gone")]
        assert [one.worker for one in missing] == ["web-3"]
        assert fleet.hosts["web-1"].forget("web-3")
        assert (await fleet.run("web-1", "workers", "--host", "all")).status == 0
        with pytest.raises(CommandFailed, match="host 'web-3': there is none; there is web-1, web"):
            await fleet.run("web-1", "workers", "--host", "web-3")


async def test_a_bus_that_takes_longer_than_it_was_given_delays_nobody(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        async def request(*given: object) -> None:  # as while its connection is replaced
            await asyncio.sleep(30)

        monkeypatch.setattr(fleet.hosts["web-1"]._bus, "request", request)
        began = asyncio.get_running_loop().time()
        found = await fleet.run("web-1", "workers", "--host", "all")
        _, missing = await fleet.hosts["web-1"].rows()
        assert asyncio.get_running_loop().time() - began < 4
        assert found.status == 75
        assert [one.worker for one in [*found.missing, *missing]] == ["web-2", "web-2"]


async def test_a_host_that_hears_and_is_slow_is_waited_for() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.doubles["web-2"].takes = 1.8
        found = await fleet.run("web-1", "workers", "--host", "all")
        assert found.status == 0
        assert {row["host"] for row in found.rows} == {"web-1", "web-2"}


async def test_hosts_that_came_while_the_network_was_divided_are_met_by_who_asks() -> None:
    async with Fleet("web-1", "web-2", "db-1") as fleet:
        for host in fleet.hosts.values():  # as after a start that nobody heard
            host.members.heard.clear()
            host._next_look = 0.0
        found = await fleet.run("web-1", "workers", "--host", "all")
        assert {row["host"] for row in found.rows} == {"web-1", "web-2", "db-1"}
        for host in fleet.hosts.values():  # each that is left has heard its hello
            assert host.members.heard
        await fleet.hosts["web-2"].rows()
        await wait_until(lambda: len(fleet.hosts["web-2"].members.names()) == 3)
        fleet.hosts["db-1"].members.heard.pop("web-2")
        fleet.hosts["db-1"]._next_look = 0.0
        found = await fleet.run("db-1", "workers", "--host", "web-2")
        assert {row["host"] for row in found.rows} == {"web-2"}


async def test_hello_is_not_said_with_each_command() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        before = fleet.wire.sent
        for _ in range(5):
            await fleet.run("web-1", "workers", "--host", "all")
        assert fleet.wire.sent - before == 10


async def test_one_that_leaves_in_order_is_expected_no_more() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        await fleet.hosts.pop("web-2").close()
        await wait_until(lambda: not fleet.hosts["web-1"].members.heard)
        assert (await fleet.run("web-1", "workers", "--host", "all")).status == 0


async def test_a_daemon_that_died_says_no_goodbye_and_is_named() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        await fleet.hosts.pop("web-2").close(says_bye=False)
        assert (await fleet.run("web-1", "workers", "--host", "all")).status == 75


async def test_the_next_console_of_a_daemon_takes_the_host_over(
    caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet("web-1", "web-2")
    asking = await fleet.join("web-1")
    old, new = [await fleet.join("web-2", home="here") for _ in range(2)]
    await wait_until(lambda: fleet.wire.listening("_apihour.fleet.shop.host.web-2") == 1)
    assert (await fleet.run("web-1", "reload", "--host", "web-2")).status == 0
    assert fleet.doubles["web-2"].done == ["reload"]  # by one of both
    rows, missing = await old.rows()  # its sessions go on
    assert ([row.host for row in rows], missing) == (["web-1", "web-2"], [])
    await old.close()
    await asyncio.sleep(0)
    assert list(asking.members.heard) == ["web-2"]
    assert (await fleet.run("web-1", "workers", "--host", "all")).status == 0
    assert new.members.names() == ["web-1", "web-2"]
    assert "another daemon" not in caplog.text
    await asyncio.gather(new.close(), asking.close())


@pytest.mark.parametrize(("there", "words", "status", "said"), [
    ("", ["workers"], 126, "is not authorised here"),
    ('role="observer"', ["reload"], 126, "needs role operator; ann has role observer"),
    ('role="admin",from="10.0.0.0/8"', ["workers"], 126, "not authorised here from 127.0.0.1"),
    ('role="observer"', ["workers"], 0, ""),
])
async def test_the_key_is_checked_again_where_it_is_obeyed(
    there: str, words: list[str], status: int, said: str
) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.lines["web-2"] = f"{there} {fleet.line}" if there else ""
        found = await fleet.run("web-1", *words, "--host", "web-2")
        assert found.status == status
        assert said in "".join(one.reason for one in found.missing)
        (record,) = fleet.doubles["web-2"].audit.recent()
        assert (record.user, record.command, record.status) == ("ann", words[0], status)
        assert record.address == "127.0.0.1:5 via web-1"


async def test_the_lesser_role_holds() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.who = replace(fleet.who, role=Role.OBSERVER)  # admin there
        found = await fleet.run("web-1", "reload", "--host", "web-2")
        assert found.status == 126
        assert fleet.doubles["web-2"].done == []


async def test_a_local_user_of_another_host_is_nobody_here() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.who = replace(fleet.who, fingerprint="")
        found = await fleet.run("web-1", "workers", "--host", "web-2")
        assert "has no key that could be checked here" in found.missing[0].reason


async def test_who_has_not_the_key_is_neither_heard_nor_believed() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.doubles["bad"] = HostDouble("bad")
        fleet.lines["bad"] = fleet.lines["web-1"]
        bad = await fleet.join("bad", b"z" * 64)
        assert fleet.hosts["web-1"].members.names() == ["web-1", "web-2"]
        bad.members.hear("web-2")
        found = await fleet.run("bad", "workers", "--host", "web-2")
        assert [one.worker for one in found.missing] == ["web-2"]
        assert fleet.doubles["web-2"].done == []


async def test_what_was_overheard_is_not_obeyed_again() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        await fleet.run("web-1", "reload", "--host", "web-2")
        assert fleet.doubles["web-2"].done == ["reload"]
        for subject, data in list(fleet.wire.letters):
            with contextlib.suppress(Exception):
                await fleet.hosts["web-1"]._bus.request(subject, data, 0.1)
        assert fleet.doubles["web-2"].done == ["reload"]


@contextlib.asynccontextmanager
async def replaying(fleet: Fleet, subject: str, data: bytes) -> AsyncIterator[None]:
    """Somebody without the key, who answers what is asked there by what he has overheard."""
    async with WiredBus(fleet.wire, "stranger").subscribe(subject) as asked:
        async def answer() -> None:
            async for message in asked:
                with contextlib.suppress(BusError):
                    await message.reply(data)

        task = asyncio.create_task(answer())
        yield
        task.cancel()


async def test_what_a_host_has_told_another_does_not_make_it_look_alive(
    caplog: pytest.LogCaptureFixture
) -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        rows, _ = await fleet.hosts["web-2"].rows()
        assert [row.status for row in rows] == ["ok"] * 3
        overheard = fleet.wire.answers[-1]
        await fleet.hosts.pop("web-3").close(says_bye=False)
        async with replaying(fleet, "_apihour.fleet.shop.host.web-3", overheard):
            rows, missing = await fleet.hosts["web-1"].rows()
        assert [row.status for row in rows] == ["ok", "ok", "gone"]
        assert [one.worker for one in missing] == ["web-3"]
        assert "an answer of host 'web-3' to another question" in caplog.text


async def test_what_a_host_has_answered_to_a_hello_does_not_make_it_known_again() -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        fleet.wire.cut.add("web-1")
        fleet.wire.answers.clear()
        await fleet.hosts["web-3"]._hello()
        (overheard,) = fleet.wire.answers  # that of web-2
        fleet.wire.cut.clear()
        for name in ("web-2", "web-3"):
            await fleet.hosts.pop(name).close()
        await wait_until(lambda: not fleet.hosts["web-1"].members.heard)
        async with replaying(fleet, "_apihour.fleet.shop.all", overheard):
            await fleet.hosts["web-1"]._hello()
        assert fleet.hosts["web-1"].members.names() == ["web-1"]


async def test_a_console_of_an_older_version_is_believed_without_the_nonce() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        old = fleet.hosts["web-2"]
        await old.close(says_bye=False)
        subject = "_apihour.fleet.shop.host.web-2"
        told = {**old.facts(), "kind": "here", "from": "web-2", "instance": "2", "home": "2"}
        async with replaying(fleet, subject, Seal(lambda: (KEY,)).close("ping", told)):
            rows, missing = await fleet.hosts["web-1"].rows()
        assert [row.status for row in rows] == ["ok", "ok"]
        told["from"] = "web-3"  # whoever answers in the name of another
        async with replaying(fleet, subject, Seal(lambda: (KEY,)).close("ping", told)):
            rows, missing = await fleet.hosts["web-1"].rows()
        assert [one.worker for one in missing] == ["web-2"]


async def test_a_short_command_that_changes_something_is_not_begun_late(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet("web-1", "web-2") as fleet:
        for double in fleet.doubles.values():
            double.catalogue.add(Command("drop", "end some", role=Role.OPERATOR, acts="workers",
                                         collects="arbiter", deadline=1.0))
        assert (await fleet.run("web-1", "drop", "--host", "web-2")).status == 0
        monkeypatch.setattr("apihour_console.hosts.letter_tickets.FRESH", -1.0)
        found = await fleet.run("web-1", "drop", "--host", "web-2")
        assert "nothing was begun, ask again" in found.missing[0].reason
        assert (await fleet.run("web-1", "workers", "--host", "web-2")).status == 0
        assert fleet.doubles["web-2"].done == ["drop", "workers"]


async def test_what_does_not_fit_in_a_letter_is_said() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        found = await fleet.run("web-1", "big", "--host", "web-2")
        assert 0 < len(found.rows) < 200
        assert found.status == 75
        assert "rows were left out" in found.missing[0].reason


async def test_lines_of_all_hosts_come_and_end_with_who_reads_them() -> None:
    async with Fleet("web-1", "web-2", "web-3") as fleet:
        fleet.wire.cut.add("web-3")
        call = parse_call(["logs", "-f", "--host", "all"], fleet.doubles["web-1"].catalogue)
        seen = set()
        async with contextlib.aclosing(fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            async for row in rows:
                seen.add((row["host"], row["message"][:5]))
                if len(seen) == 3:
                    break
        assert seen == {("web-1", "web-1"), ("web-2", "web-2"), ("web-3", "no an")}
        await wait_until(lambda: "end of stream" in fleet.doubles["web-2"].done)
        assert "end of stream" in fleet.doubles["web-1"].done


async def test_who_goes_while_its_lines_are_followed_is_told_and_followed_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour_console.hosts.far_end._HOLD", 0.2)
    monkeypatch.setattr("apihour_console.hosts.following._SILENT", 1.0)
    monkeypatch.setattr("apihour_console.hosts.following._AGAIN", 0.1)
    async with Fleet("web-1", "web-2") as fleet:
        call = parse_call(["logs", "-f", "--host", "all"], fleet.doubles["web-1"].catalogue)
        seen: list[tuple[str, str]] = []
        async with asyncio.timeout(60), contextlib.aclosing(
                fleet.hosts["web-1"].stream(call, fleet.who)) as rows:
            async for row in rows:
                seen.append((row["host"], row["message"]))
                if seen.count(("web-2", "web-2 2")) == 1 and not fleet.wire.cut:
                    fleet.wire.cut.add("web-2")
                if "no sign" in row["message"]:
                    assert row["host"] == "web-2"
                    await wait_until(lambda: "end of stream" in fleet.doubles["web-2"].done)
                    fleet.wire.cut.add("nobody")
                    fleet.wire.cut.discard("web-2")
                if seen.count(("web-2", "web-2 2")) == 2:
                    break
        assert sum("no sign" in message for _, message in seen) == 1
        assert seen.count(("web-1", "web-1 2")) == 1


async def test_a_stream_does_not_wait_for_who_is_gone() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        fleet.wire.cut.add("web-2")
        call = parse_call(["logs", "-f", "--host", "web-2"], fleet.doubles["web-1"].catalogue)
        rows = [row async for row in fleet.hosts["web-1"].stream(call, fleet.who)]
        assert [row["message"][:9] for row in rows] == ["no answer"]


async def test_a_fleet_reloads_one_after_another_and_stops_at_the_first_failure() -> None:
    async with Fleet("a", "b", "c") as fleet:
        deeds, missing = await fleet.hosts["a"].reload(fleet.who, 1, False)
        assert [(one.host, one.outcome) for one in deeds] == [
            ("a", "done"), ("b", "done"), ("c", "done")]
        assert missing == []
        fleet.doubles["b"].fails.add("reload")
        for give_back, first in ((False, "done"), (True, "returned")):
            deeds, _ = await fleet.hosts["a"].reload(fleet.who, 1, give_back)
            assert [(one.host, one.outcome) for one in deeds] == [
                ("a", first), ("b", "failed"), ("c", "not reached")]
            assert deeds[1].error == "reload: it does not come up"
        assert fleet.doubles["a"].done.count("rollback") == 1
        assert fleet.doubles["c"].done.count("reload") == 1


async def test_each_host_of_a_fleet_is_reloaded_with_the_options_that_were_given() -> None:
    async with Fleet("a", "b") as fleet:
        deeds, _ = await fleet.hosts["a"].reload(fleet.who, 2, False, ["--canary=1"])
        assert {one.outcome for one in deeds} == {"done"}
        for name in ("a", "b"):
            assert fleet.doubles[name].asked[0] == {"canary": 1}


async def test_one_reload_of_all_is_not_asked_of_several_hosts() -> None:
    async with Fleet("a", "b") as fleet:
        with pytest.raises(CommandFailed, match="option --host: --fleet is for all hosts") as told:
            await fleet.run("a", "reload", "--fleet", "--host", "all")
        assert told.value.kind == "usage"
        assert fleet.doubles["a"].done == fleet.doubles["b"].done == []


async def test_what_happened_on_several_hosts_is_told_in_the_order_of_time() -> None:
    async with Fleet("a", "b") as fleet:
        for name, seconds in (("a", (1, 4, 5)), ("b", (2, 3, 6))):
            fleet.doubles[name].told = [
                {"time": f"2026-11-27T18:00:0{second}.000Z", "message": f"{name} {second}"}
                for second in seconds]
        found = await fleet.run("a", "logs", "--host", "all")
        assert [row["message"] for row in found.rows] == ["a 1", "b 2", "b 3", "a 4", "a 5", "b 6"]
        found = await fleet.run("a", "logs", "--host", "all", "--limit", "2")
        assert [row["message"] for row in found.rows] == ["a 5", "b 6"]
        found = await fleet.run("a", "logs", "--host", "all", "--sort", "-message")
        assert [row["message"][0] for row in found.rows] == [*"bbbaaa"]


async def test_a_fleet_with_one_missing_is_not_reloaded_at_all() -> None:
    async with Fleet("a", "b") as fleet:
        fleet.wire.cut.add("b")
        fleet.hosts["a"]._next_look = 0.0
        began = asyncio.get_running_loop().time()
        deeds, missing = await fleet.hosts["a"].reload(fleet.who, 1, True)
        assert asyncio.get_running_loop().time() - began < 2  # it looks and asks at once
        assert [(one.host, one.outcome) for one in deeds] == [
            ("a", "not reached"), ("b", "not reached")]
        assert [one.worker for one in missing] == ["b"]
        assert fleet.doubles["a"].done == []


@pytest.mark.parametrize(("words", "said"), [
    (["workers", "--host", "a b"], "option --host: 'a b'; expected names of hosts, or all"),
    (["stack", "@a:1.1", "--host", "b"], "hosts 'a' and 'b'; expected one of them"),
    (["stack", "@a:x"], "'x'; expected a worker"),
])
def test_what_cannot_be_asked_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_call(words, HostDouble("x").catalogue)


@pytest.mark.parametrize(("words", "far"), [
    (["workers", "--host", "all", "--sort", "pid"], ("workers", "--sort", "pid")),
    (["workers", "--host=web-*"], ("workers",)),
    (["stack", "@web-2:1.1"], ("stack", "1.1")),
    (["stack", "@web-2"], ("stack", "all")),
    (["workers", "--worker", "@a:2"], ("workers", "--worker", "2")),
    (["workers", "--worker=@a:2.1,1"], ("workers", "--worker=2.1,1")),
])
def test_a_host_reads_the_words_that_are_for_it(words: list[str], far: tuple[str, ...]) -> None:
    assert parse_call(words, HostDouble("x").catalogue).far_words == far


async def test_a_name_that_two_daemons_have_is_said_and_nothing_is_reloaded() -> None:
    async with Fleet("web-1", "web-2") as fleet:
        one = fleet.hosts["web-2"]
        await fleet.join("web-2", home="another machine")
        fleet.hosts["web-1"]._next_look = 0.0
        deeds, missing = await fleet.hosts["web-1"].reload(fleet.who, 1, False)
        assert {deed.outcome for deed in deeds} == {"not reached"}
        assert [(row.worker, row.reason[:15]) for row in missing] == [("web-2", "several daemons")]
        assert [row.worker for row in (await fleet.hosts["web-2"].rows())[1]] == ["web-2"]
        await one.close()
        fleet.hosts["web-1"].members.hear("web-2")  # the other one is there
        fleet.hosts["web-1"]._next_look = 0.0
        deeds, missing = await fleet.hosts["web-1"].reload(fleet.who, 1, False)
        assert {deed.outcome for deed in deeds} == {"done"}
        assert missing == []
