"""The checker of ``benchmarks/partition.py``: each history that breaks a promise is found out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module; last in the path, as ``http.py`` there must not be ours."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1] / "benchmarks")])
    return importlib.import_module("partition_history")


def call(op: str, at: float, took: float = 0.1, outcome: str = "ok", who: str = "web-1-1",
         **facts: Any) -> dict[str, Any]:
    return {"op": op, "who": who, "began": at - took, "at": at, "outcome": outcome, **facts}


def begun(op: str, at: float, **facts: Any) -> dict[str, Any]:
    return {"op": "begin", "call": op, "who": "web-1-1", "at": at - 0.1, **facts}


def sound(count: int = 60) -> list[dict[str, Any]]:
    """A history of one worker in which everything holds."""
    found: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        at, who = float(number), "web-1-1"
        found += [
            begun("publish", at, id=f"m{number}"),
            call("publish", at, id=f"m{number}"),
            begun("incr", at),
            {"op": "deliver", "who": who, "at": at + 0.1, "id": f"m{number}", "deliveries": 1},
            call("incr", at, value=number),
            call("read", at, revision=10 * (number - 1), value=f"v{number - 1}" * (number > 1)),
            call("swap", at + 0.2, expected=10 * (number - 1), revision=10 * number,
                 value=f"v{number}"),
            {"op": "watch", "who": who, "at": at + 0.3, "revision": 10 * number,
             "value": f"v{number}"},
            {"op": "write", "who": who, "at": at, "token": 7, "outcome": "ok"},
            call("ask", at),
        ]
    look = {"op": "look", "who": "driver", "at": 5.0, "at_host": "web-1", "kind": "kill",
            "gone": "web-2", "named": True, "took": 1.6, "status": 75, "said": "", "accused": []}
    return [*found, look, {**look, "gone": "", "took": 9.0, "status": 0},
            {"op": "final", "who": "driver", "at": 99.0, "counter": count, "revision": 10 * count,
             "value": f"v{count}", "there": ["web-1-1"]}]


def without(history: list[dict[str, Any]], **facts: Any) -> list[dict[str, Any]]:
    return [one for one in history if not facts.items() <= one.items()]


def changed(history: list[dict[str, Any]], facts: dict[str, Any], **to: Any) -> list[Any]:
    """The history with other facts in the record that has these."""
    found = [{**one, **to} if facts.items() <= one.items() else one for one in history]
    assert found != history
    return found


def test_a_sound_history_has_no_fault(judge: Any) -> None:
    assert judge.check(sound()) == []
    assert judge.stale(sound()) == 0


def test_what_may_happen_is_no_fault(judge: Any) -> None:
    history = [
        *sound(),
        {"op": "deliver", "who": "web-1-1", "at": 70.0, "id": "m3", "deliveries": 2},
        begun("publish", 21.0, id="unknown"),  # by who was killed, or knows nothing of it
        {"op": "deliver", "who": "web-1-1", "at": 70.0, "id": "unknown", "deliveries": 1},
        call("publish", 31.0, 9.0, "BusTimeoutError", id="not stored"),
        call("swap", 10.15, outcome="RevisionError", expected=50, value="late"),
        {"op": "write", "who": "web-2-1", "at": 70.0, "token": 9, "outcome": "ok"},
        {"op": "write", "who": "web-1-1", "at": 71.0, "token": 7, "outcome": "stale"},
        {"op": "fault", "who": "driver", "kind": "stop", "target": "web-2-2", "began": 10.0,
         "at": 20.0},
        call("ask", 20.1, 9.5, "BusTimeoutError", who="web-2-2"),
    ]
    assert judge.check(history) == []
    history = changed(history, {"op": "final"}, counter=61)
    assert judge.check([*history, {**begun("incr", 98.0), "who": "web-2-1"}]) == []


def test_a_sum_that_was_given_to_nobody_is_that_of_a_call_that_failed_then(judge: Any) -> None:
    lost = without(sound(), op="incr", value=30)
    assert judge.check([*lost, call("incr", 30.0, 0.1, "SharedDownError")]) == []
    assert judge.check([*lost, call("incr", 27.0, 1.0, "SharedDownError")]) == []  # done late
    killed = {**begun("incr", 29.0), "who": "web-2-1"}
    assert judge.check([*lost, killed, begun("incr", 98.0)]) == []
    for at in (10.0, 40.0):  # long before, and after
        later = call("incr", at, 0.1, "SharedDownError", who="web-2-1")
        (fault,) = judge.check([*lost, later])
        assert fault == ("counter: 1 sums before 31 were given to nobody; 0 calls failed about "
                         "then")


def test_one_that_failed_explains_one_sum(judge: Any) -> None:
    lost = [one for one in sound() if not (one["op"] == "incr" and one["value"] in (30, 31))]
    failed = call("incr", 30.0, 0.1, "SharedDownError")
    (fault,) = judge.check([*lost, failed])
    assert "2 sums before 32 were given to nobody; 1 calls failed" in fault
    assert judge.check([*lost, failed, call("incr", 30.2, 0.1, "SharedDownError")]) == []


def broken() -> dict[str, tuple[list[dict[str, Any]], str]]:
    """Histories that have to be found out, and what has to be said of them."""
    whole = sound()
    write = {"op": "write", "who": "web-2-1", "token": 9, "outcome": "ok", "at": 70.0}
    stale = {**write, "who": "web-1-1", "token": 7, "at": 71.0}
    return {
        "lost message": (without(whole, op="deliver", id="m9"), "m9: acknowledged, never"),
        "invented message": (without(whole, op="begin", id="m9"), "m9: delivered, never sent"),
        "two holders": ([*whole, write, stale], "token 7 of web-1-1 was let in after 9"),
        "one token of two": ([*whole, {**write, "token": 7}], "token 7: of web-1-1 and of web-2"),
        "refused holder": ([*whole, {**write, "outcome": "stale"}], "token 9 of web-2-1 was ref"),
        "a sum twice": (changed(whole, {"op": "incr", "value": 30}, value=31), "31 was given twi"),
        "a sum that goes back": (changed(whole, {"op": "incr", "value": 30}, value=-1),
                                 "-1 was given after 29"),
        "lost increments": (changed(whole, {"op": "final"}, counter=59), "59 at the end; 60 were"),
        "too many increments": (changed(whole, {"op": "final"}, counter=61), "60 were tried"),
        "an increment done twice where others fail": (
            [{**one, "value": one["value"] + (one["value"] > 30)} if one["op"] == "incr" else one
             for one in changed(whole, {"op": "final"}, counter=61)] + [
                begun("incr", 50.0), call("incr", 50.0, 0.1, "SharedDownError", who="web-2-1")],
            "1 sums before 32 were given to nobody; 0 calls failed about then"),
        "a revision replaced twice": (
            changed(whole, {"op": "swap", "revision": 300}, expected=280), "280 was replaced 2"),
        "a revision given twice": (
            [*whole, call("swap", 10.3, expected=5, revision=100, value="other", who="w")],
            "revision 100 was given twice"),
        "a revision that is below": ([*whole, call("swap", 80.0, expected=605, revision=604,
                                                   value="x")], "604 took the place of 605"),
        "another value": (changed(whole, {"op": "read", "revision": 100}, value="other"),
                          "revision 100 is 'other' and 'v10'"),
        "lost write": (changed(whole, {"op": "final"}, revision=590, value="v59"),
                       "590 at the end, 600 was acknowledged"),
        "a read that goes back": (changed(whole, {"op": "read", "revision": 100}, revision=90,
                                          value="v9"), "web-1-1: read 90 after 100"),
        "a watch that goes back": (changed(whole, {"op": "watch", "revision": 300}, revision=200,
                                           value="v20"), "its watch told 200 after 290"),
        "a watch that misses the end": (without(whole, op="watch", revision=600),
                                        "its watch ends at 590, the register at 600"),
        "a watch that is dumb": ([
            {**one, "there": ["web-1-1", "web-3-3"]} if one["op"] == "final" else one
            for one in whole], "web-3-3: its watch ends at 0"),
        "an untyped error": ([*whole, call("read", 9.0, outcome="untyped KeyError('x')")],
                             "untyped KeyError"),
        "a late call": ([*whole, call("ask", 9.0, 2.6, "BusTimeoutError")], "ask ended 1.6 s late"),
        "a late publish": ([*whole, call("publish", 90.0, 14.0, "BusDownError", id="x")],
                           "publish ended 2.0 s late"),
        "nobody is named": (changed(whole, {"gone": "web-2"}, named=False), "did not name web-2"),
        "named too late": (changed(whole, {"gone": "web-2"}, took=2.6), "named web-2 after 2.6 s"),
        "not whole again": (changed(whole, {"op": "look", "gone": ""}, named=False),
                            "did not name"),
        "a session with the dead": (
            [*whole, {"op": "session", "at": 5.0, "at_host": "web-2", "status": None}],
            "the session at web-2 has outlived it"),
        "no end": (without(whole, op="final"), "the end was not seen"),
        "nothing": ([], "0 of publish; expected 50 at least"),
    }


@pytest.mark.parametrize("name", broken())
def test_a_history_that_breaks_a_promise_is_found_out(judge: Any, name: str) -> None:
    history, said = broken()[name]
    assert said in "\n".join(judge.check(history))


def test_reads_of_the_past_are_counted(judge: Any) -> None:
    past = call("read", 30.0, who="web-3-1", revision=100, value="v10")
    assert judge.stale([*sound(), past]) == 1
    assert judge.check([*sound(), past]) == []
    assert judge.stale([*sound(), {**past, "began": 10.25}]) == 0  # as it was when it began
