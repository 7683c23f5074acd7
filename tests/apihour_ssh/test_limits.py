"""The arithmetic of admission, without a socket or a clock."""

import pytest

from apihour_ssh.limits import Admission, Limits, TokenBucket, network_of


def admission(chance=0.99, **numbers):
    facts = {"connections": 0, "per_address": 0, "rate": 0.0, "address_rate": 0.0,
             "startups": (0, 0.0, 0), **numbers}
    return Admission(Limits(**facts), 0.0, lambda: chance)


def test_bucket():
    bucket = TokenBucket(2.0, 3, 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(10.4) is False
    assert bucket.take(10.5) is True
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"),
    ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("", ""),
])
def test_network_of(address, network):
    assert network_of(address) == network


def test_counts_in_all_and_per_address():
    gate = admission(connections=3, per_address=2)
    assert [gate.admit(a, 0) for a in ("192.0.2.1", "192.0.2.1")] == ["", ""]
    assert gate.admit("192.0.2.1", 0) == "too many connections from one address"
    assert gate.admit("192.0.2.2", 0) == ""
    assert gate.admit("192.0.2.3", 0) == "too many connections"
    gate.leave("192.0.2.1", had_logged_in=False)
    assert gate.admit("192.0.2.1", 0) == ""
    assert gate.refused.total() == 2 and gate.open == 3


def test_a_customers_whole_network_counts_as_one():
    gate = admission(per_address=1)
    assert gate.admit("2001:db8::1", 0) == ""
    assert gate.admit("2001:db8::ffff", 0) != ""
    assert gate.admit("2001:db8:0:1::1", 0) == ""


def test_unix_peers_meet_the_servers_limits_only():
    gate = admission(per_address=1, address_rate=1.0, address_burst=1, connections=3)
    assert [gate.admit("", 0) for _ in range(4)] == ["", "", "", "too many connections"]


def test_rates():
    gate = admission(address_rate=1.0, address_burst=2, rate=10.0, burst=3)
    assert [gate.admit("192.0.2.1", 0) for _ in range(3)] == [
        "", "", "connections from one address come too fast"]
    assert gate.admit("192.0.2.2", 0) == ""
    assert gate.admit("192.0.2.3", 0) == "connections come too fast"
    assert gate.admit("192.0.2.3", 1.0) == ""


def test_early_drops():
    gate = admission(chance=0.5, startups=(2, 0.3, 6))
    assert [gate.admit("192.0.2.1", 0) for _ in range(2)] == ["", ""]
    assert gate.admit("192.0.2.1", 0) == ""  # 0.3 of them are dropped, not this one
    assert gate.admit("192.0.2.1", 0) == ""  # 0.475
    assert gate.admit("192.0.2.1", 0) == "too many logins under way"  # 0.65
    gate.logged_in()
    gate.logged_in()
    assert gate.starting == 2 and gate.admit("192.0.2.1", 0) == ""


def test_all_are_dropped_when_full():
    gate = admission(chance=1.0, startups=(1, 0.3, 2))
    assert [bool(gate.admit("192.0.2.1", 0)) for _ in range(3)] == [False, False, True]


def test_memory_is_bounded():
    gate = admission(address_rate=1.0, address_burst=1)
    for number in range(10_000):
        address = f"10.0.{number >> 8}.{number & 255}"
        assert gate.admit(address, 0) == ""
        gate.leave(address, had_logged_in=True)
        gate.starting = 0
    assert len(gate._buckets) == 8192 and not gate._counts
