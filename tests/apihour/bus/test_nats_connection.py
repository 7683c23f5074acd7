"""Which of several servers of NATS is tried first."""

from __future__ import annotations

from collections import Counter

from apihour.bus.nats_connection import near_first

FAR = [f"nats://198.51.100.{number}:4222" for number in range(1, 4)]  # of RFC 5737: nobody's


async def test_the_server_on_this_machine_comes_first_wherever_it_stands() -> None:
    for near in ("nats://127.0.0.1:4222", "nats://localhost:4222", "tls://u:p@[::1]:4222"):
        for place in range(4):
            found = await near_first([*FAR[:place], near, *FAR[place:]])
            assert found[0] == near
            assert sorted(found[1:]) == FAR


async def test_of_those_elsewhere_each_is_first_for_some() -> None:
    first = Counter([(await near_first(FAR))[0] for _ in range(100)])
    assert sorted(first) == FAR


async def test_a_name_that_is_not_known_is_elsewhere() -> None:
    near = "nats://127.0.0.1:4222"
    assert await near_first(["nats://nowhere.invalid:4222", near]) == [
        near, "nats://nowhere.invalid:4222"]
