"""Who gets what: the same as by looking at every pattern, and soon, however many there are."""

from __future__ import annotations

import random
import time

from apihour.bus.interests import Interests
from apihour.bus.subjects import matches


def test_it_finds_what_a_look_at_every_pattern_finds() -> None:
    chance = random.Random(7)
    patterns = ["a", "a.b", "a.*", "a.>", "*", ">", "*.b", "b.c", "b.c.d", "b.*.d"]
    subjects = ["a", "b", "a.b", "b.c", "b.c.d", "x.y.z"]
    interests: Interests[str] = Interests()
    there: list[tuple[str, str, str]] = []
    for _ in range(2000):
        if there and chance.random() < 0.5:
            one = there.pop(chance.randrange(len(there)))
            interests.remove(*one)
        elif there and chance.random() < 0.05:
            gone = chance.choice("rst")
            there = [one for one in there if one[2] != gone]
            interests.forget(gone)
        else:
            one = (chance.choice(patterns), chance.choice(["", "q", "w"]), chance.choice("rst"))
            there.append(one)
            interests.add(*one)
        subject = chance.choice(subjects)
        found = interests.match(subject)
        wanted = [one for one in there if matches(one[0], subject)]
        assert set(found.plain) == {who for _, queue, who in wanted if not queue}
        assert {queue: sorted(members) for queue, members in found.groups.items()} == {
            name: sorted(who for _, queue, who in wanted if queue == name)
            for name in {queue for _, queue, _ in wanted if queue}}


def test_a_subscription_for_each_client_is_found_at_once() -> None:
    interests: Interests[int] = Interests()
    for number in range(20_000):
        interests.add(f"client.{number}", "", number)
    began = time.process_time()
    for number in range(2000):
        interests.add(f"client.{number}.more", "", number)
        assert interests.match(f"client.{number}").plain == (number,)
    assert time.process_time() - began < 1, "each would take 20 ms"


def test_a_pattern_for_each_client_costs_a_message_no_more() -> None:
    interests: Interests[int] = Interests()
    for number in range(10_000):
        interests.add(f"users.{number}.*", "", number)
    began = time.process_time()
    for number in range(0, 10_000, 20):
        assert interests.match(f"users.{number}.seen").plain == (number,)
    assert time.process_time() - began < 1
    for number in range(10_000):
        interests.remove(f"users.{number}.*", "", number)
        interests.remove(f"users.{number}.*", "", number)
    assert interests._wild == {}
