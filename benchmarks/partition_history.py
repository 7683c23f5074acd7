"""The checker of ``partition.py``: what a recorded history breaks of what was promised.

A history is a list of records, mappings with ``op``, ``at`` (seconds of one clock that all
processes have), ``who`` (a worker of a host), and what belongs to ``op``:

- calls (``publish``, ``ack``, ``ask``, ``incr``, ``read``, ``swap``): ``began``, ``outcome`` ("ok",
  the name of a typed error, or "untyped …"), and with "ok" what they gave;
- ``begin`` of a ``publish`` or ``incr`` (its name in ``call``), which who is killed does not end;
- ``deliver`` of a durable message's ``id``, ``watch`` of the register, ``write`` to the resource
  with a ``token`` and its answer;
- ``fault`` and ``look`` of the driver, and ``final``: the store's state when all was quiet.

Every function takes the whole history and returns a list of faults, in words; no fault, no words.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

Record = Mapping[str, Any]
History = list[Record]

LIMITS = {"publish": 12.0, "ack": 10.0, "ask": 1.0, "incr": 2.0, "read": 1.0, "swap": 1.1}
"""Seconds that the documentation gives each call (a durable one has 2 for the connection, too)."""
SLACK = 0.5  # seconds that a loaded machine may take on top
LATE = 5.0  # seconds after its end in which a call that failed may still be done
NAMED = 2.0  # seconds in which the shell names what is gone, the operator's login included
LEAST = {"publish": 50, "deliver": 50, "incr": 20, "swap": 20, "watch": 20, "write": 20}
"""So many of each there must be: a history in which nothing happened proves nothing."""


def of(history: History, *ops: str, ok: bool = False) -> Iterator[Record]:
    """The records of those operations; with `ok` those that succeeded."""
    return (one for one in history if one["op"] in ops and (not ok or one["outcome"] == "ok"))


def check(history: History) -> list[str]:
    """All that is broken."""
    history = sorted(history, key=lambda one: float(one["at"]))
    return [fault for judge in (messages, holders, counter, gaps, register, reads, watches, calls,
                                shell, enough) for fault in judge(history)]


def messages(history: History) -> list[str]:
    """Every durable message that was acknowledged is delivered."""
    delivered = {one["id"] for one in of(history, "deliver")}
    sent = {one["id"] for one in of(history, "begin") if one["call"] == "publish"}
    lost = [one["id"] for one in of(history, "publish", ok=True) if one["id"] not in delivered]
    return [f"message {one}: acknowledged, never delivered" for one in lost] + [
        f"message {one}: delivered, never sent" for one in sorted(delivered - sent)]


def holders(history: History) -> list[str]:
    """The resource is written by one holder at a time: no token after a greater one, each of one.

    It is judged by what was let in, not by what the resource believes.
    """
    faults, greatest, owners = [], 0, dict[int, str]()
    for one in of(history, "write"):
        token, is_in = one["token"], one["outcome"] == "ok"
        if owners.setdefault(token, one["who"]) != one["who"]:
            faults.append(f"token {token}: of {owners[token]} and of {one['who']}")
        if is_in and token < greatest:
            faults.append(f"token {token} of {one['who']} was let in after {greatest}")
        if not is_in and token >= greatest:
            faults.append(f"token {token} of {one['who']} was refused, {greatest} was the last")
        greatest = max(greatest, token) if is_in else greatest
    return faults


def counter(history: History) -> list[str]:
    """No sum is given twice, later ones are greater, none that was acknowledged is lost."""
    done = list(of(history, "incr", ok=True))
    twice = [value for value, times in Counter(one["value"] for one in done).items() if times > 1]
    faults = [f"counter: the sum {value} was given twice" for value in twice]
    faults += [f"counter: {one['value']} was given after {before}"
               for one, before in _below(done, "value") if one["value"] not in twice]
    tried = sum(one["call"] == "incr" for one in of(history, "begin"))
    for one in of(history, "final"):
        if not len(done) <= one["counter"] <= tried:
            faults.append(f"counter: {one['counter']} at the end; {len(done)} were acknowledged, "
                          f"{tried} were tried")
    return faults


def gaps(history: History) -> list[str]:
    """A sum that nobody was given is that of a call that failed about then.

    Else some call was done twice. The whole is not enough: many fail where one is done twice.
    """
    faults, waiting, failed, least = [], list[float](), _failed(history), 0.0
    given = sorted(of(history, "incr", ok=True), key=lambda one: int(one["value"]))
    given += [{"value": one["counter"] + 1, "began": one["at"], "at": one["at"]}
              for one in of(history, "final")]
    latest, last = _latest(given), 0
    for one, at in zip(given, latest, strict=True):
        while failed and failed[-1][0] <= at:
            heapq.heappush(waiting, failed.pop()[1])
        while waiting and waiting[0] < least:
            heapq.heappop(waiting)
        missing = one["value"] - last - 1
        if missing > len(waiting):
            faults.append(f"counter: {missing} sums before {one['value']} were given to nobody; "
                          f"{len(waiting)} calls failed about then")
        for _ in range(min(missing, len(waiting))):
            heapq.heappop(waiting)
        least, last = max(least, one["began"]), one["value"]
    return faults


def _failed(history: History) -> list[tuple[float, float]]:
    """From when until when each ``incr`` that failed, or was killed, may be done; the first last.

    A worker makes one at a time: the one that is begun and has no end is its last.
    """
    ends = defaultdict[str, list[Record]](list)
    for one in of(history, "incr"):
        ends[one["who"]].append(one)
    found = [(one["began"], one["at"] + LATE) for one in of(history, "incr")
             if one["outcome"] != "ok"]
    begun = Counter[str]()
    for one in of(history, "begin"):
        if one["call"] == "incr":
            begun[one["who"]] += 1
            if begun[one["who"]] > len(ends[one["who"]]):
                found.append((one["at"], one["at"] + LIMITS["incr"] + LATE))
    return sorted(found, reverse=True)


def _latest(given: list[Record]) -> list[float]:
    """By when each sum was reached: a greater one that was given shows it, too."""
    found, at = [], math.inf
    for one in reversed(given):
        at = min(at, one["at"])
        found.append(at)
    return found[::-1]


def register(history: History) -> list[str]:
    """Each swap that succeeded took the place of a revision of its own, and gave a greater one."""
    faults, values = [], dict[int, str]()
    done = list(of(history, "swap", ok=True))
    for expected, times in Counter(one["expected"] for one in done).items():
        if times > 1:
            faults.append(f"register: revision {expected} was replaced {times} times")
    for one in done:
        if one["revision"] <= one["expected"]:
            faults.append(f"register: {one['revision']} took the place of {one['expected']}")
        if values.setdefault(one["revision"], one["value"]) != one["value"]:
            faults.append(f"register: revision {one['revision']} was given twice")
    seen = [*of(history, "read", ok=True), *of(history, "watch"), *of(history, "final")]
    for one in seen:
        if one["revision"] and values.setdefault(one["revision"], one["value"]) != one["value"]:
            faults.append(f"register: revision {one['revision']} is {one['value']!r} and "
                          f"{values[one['revision']]!r}")
    last = max((one["revision"] for one in done), default=0)
    return faults + [f"register: {one['revision']} at the end, {last} was acknowledged"
                     for one in of(history, "final") if one["revision"] < last]


def reads(history: History) -> list[str]:
    """A worker never reads what is older than what it has read or written before."""
    faults, known = [], defaultdict[str, int](int)
    for one in of(history, "read", "swap", ok=True):
        if one["revision"] < known[one["who"]]:
            faults.append(f"{one['who']}: read {one['revision']} after {known[one['who']]}")
        known[one["who"]] = max(known[one["who"]], one["revision"])
    return faults


def stale(history: History) -> int:
    """How many reads missed a write that was acknowledged before they began."""
    return sum(1 for _ in _below(list(of(history, "read", "swap", ok=True)), "revision", "read"))


def watches(history: History) -> list[str]:
    """A watch goes forward, and that of who is there at the end has told the last state."""
    faults, told = [], defaultdict[str, list[Record]](list)
    for one in of(history, "watch"):
        told[one["who"]].append(one)
    for who, changes in told.items():
        faults += [f"{who}: its watch told {b['revision']} after {a['revision']}"
                   for a, b in pairwise(changes) if b["revision"] <= a["revision"]]
    for final in of(history, "final"):
        for who in final["there"]:
            last = told[who][-1]["revision"] if told[who] else 0
            if last != final["revision"]:
                faults.append(f"{who}: its watch ends at {last}, the register at "
                              f"{final['revision']}")
    return faults


def calls(history: History) -> list[str]:
    """Every call ends in time, with its answer or with a typed error."""
    faults = [f"{one['who']}: {one['op']}: {one['outcome']}" for one in of(history, *LIMITS)
              if one["outcome"].startswith("untyped")]
    return faults + [f"{one['who']}: {one['op']} ended {over:.1f} s late ({one['outcome']})"
                     for one, over in overruns(history) if over > SLACK]


def overruns(history: History) -> list[tuple[Record, float]]:
    """Calls and by how many seconds they were late; not those of a worker that was stopped."""
    stopped = [one for one in of(history, "fault") if one["kind"] == "stop"]
    return [
        (one, one["at"] - one["began"] - LIMITS[one["op"]]) for one in of(history, *LIMITS)
        if not any(stop["target"] == one["who"] and stop["began"] < one["at"]
                   and one["began"] < stop["at"] for stop in stopped)]


def shell(history: History) -> list[str]:
    """A host that is gone is named in time, by status 75; then all are there again."""
    faults = []
    for one in of(history, "look"):
        if not one["named"]:
            faults.append(f"the shell of {one['at_host']} did not name {one['gone']} after "
                          f"{one['kind']}: {one['said']}")
        elif one["gone"] and one["took"] > NAMED + SLACK:
            faults.append(f"the shell of {one['at_host']} named {one['gone']} after "
                          f"{one['took']:.1f} s")
    return faults + [f"the session at {one['at_host']} has outlived it"
                     for one in of(history, "session") if one["status"] != 255]


def enough(history: History) -> list[str]:
    """Something happened at all."""
    found = Counter(one["op"] for one in history if one.get("outcome", "ok") == "ok")
    faults = [f"{found[op]} of {op}; expected {least} at least" for op, least in LEAST.items()
              if found[op] < least]
    return faults + ([] if found["final"] else ["the end was not seen"])


def _below(
    done: Iterable[Record], key: str, op: str = "",
) -> Iterator[tuple[Record, int]]:
    """Calls whose `key` is below that of one that ended before they began, and that."""
    ended = sorted(done, key=lambda one: float(one["at"]))
    greatest, at = 0, 0
    for one in sorted(ended, key=lambda one: float(one["began"])):
        while at < len(ended) and ended[at]["at"] < one["began"]:
            greatest = max(greatest, ended[at][key])
            at += 1
        if one[key] < greatest and one["op"].startswith(op):
            yield one, greatest
