"""Who may begin a login: counts, rates, early drop; numbers only."""

from __future__ import annotations

import pytest

from apihour_console.gate import Gate, Limits, network_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def gate(clock: Clock | None = None, chance: float = 1.0, **limits: float) -> Gate:
    given = {**vars(Limits.none()), **limits}
    return Gate(Limits(**given), clock or Clock(), lambda: chance)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("local", "local"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


def test_no_limits_admit_everybody() -> None:
    open_gate = gate()
    assert {open_gate.admit("10.0.0.1") for _ in range(1000)} == {""}


def test_counts_per_address_and_in_all() -> None:
    one = gate(connections=5, per_address=2)
    assert [one.admit("::1"), one.admit("::2"), one.admit("::3")] == [
        "", "", "too many connections from the address"  # one /64
    ]
    assert [one.admit(f"10.0.0.{n}") for n in range(4)] == ["", "", "", "too many connections"]
    one.leave("::1", False)
    assert one.admit("::3") == ""
    assert one.refused == {
        "too many connections from the address": 1, "too many connections": 1
    }


def test_a_rate_per_address_refills_and_logins_give_back() -> None:
    clock = Clock()
    one = gate(clock, address_rate=1, address_burst=2)
    assert [one.admit("10.0.0.1") for _ in range(3)] == ["", "", "too fast from the address"]
    assert one.admit("10.0.0.2") == ""
    clock.now += 1
    assert one.admit("10.0.0.1") == ""
    assert one.admit("10.0.0.1") == "too fast from the address"
    one.logged_in("10.0.0.1")
    assert one.admit("10.0.0.1") == ""


def test_a_rate_in_all() -> None:
    clock = Clock()
    one = gate(clock, rate=10, burst=5)
    assert [one.admit(f"10.0.0.{n}") for n in range(6)].count("") == 5
    clock.now += 0.1
    assert one.admit("10.0.1.1") == ""


def test_early_drop_grows_until_full() -> None:
    settings = {"startups_begin": 2, "startups_rate": 0.5, "startups_full": 4}
    lucky, unlucky = gate(chance=0.6, **settings), gate(chance=0.4, **settings)
    assert [lucky.admit(f"10.0.0.{n}") for n in range(4)] == [
        "", "", "", "too many logins under way"  # at 3 the chance to be dropped is 0.75
    ]
    assert [unlucky.admit(f"10.0.0.{n}") for n in range(3)].count("") == 2
    lucky.logged_in("10.0.0.0")
    assert lucky.admit("10.0.0.9") == ""
    lucky.leave("10.0.0.0", True)
    assert (lucky.open, lucky.starting) == (3, 3)


def test_memory_of_addresses_is_bounded() -> None:
    one = gate(address_rate=1, address_burst=1)
    for number in range(10_050):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        one.admit(address)
        one.leave(address, False)
    assert len(one._buckets) == 10_000 and not one._counts
