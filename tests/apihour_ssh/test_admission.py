"""Who may begin a login, when, and who makes room: without a socket or a clock."""

import pytest

from apihour_ssh.admission import Admission
from apihour_ssh.limits import Limits

FAST = "connections come too fast"
FAST_ONE = "connections from one address come too fast"
HOME, OFFICE = "198.51.100.1", "198.51.100.2"


class Gate:
    """An admission and the connections that were ended for others."""

    def __init__(self, known=(), **numbers):
        facts = {"connections": 0, "per_address": 0, "rate": 0.0, "address_rate": 0.0,
                 "startups": 0, "reserved": 0, **numbers}
        self.admission = Admission(Limits(**facts), 0.0, known)
        self.ended = []

    def admit(self, address, now=0.0):
        ticket = self.admission.admit(address, now)
        ticket.end = lambda: self.ended.append(address)
        return ticket

    def admits(self, count, first=0):
        """Connections from so many different addresses."""
        return [self.admit(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
                for n in range(first, first + count)]


def test_counts_in_all_and_per_address():
    gate = Gate(connections=3, per_address=2)
    inside = [gate.admit("192.0.2.1") for _ in range(2)]
    for ticket in inside:
        gate.admission.log_in(ticket)
    assert gate.admit("192.0.2.1").refused == "too many connections from one address"
    gate.admission.log_in(gate.admit("192.0.2.2"))
    assert gate.admit("192.0.2.3").refused == "too many connections"
    gate.admission.leave(inside[0])
    gate.admission.leave(inside[0])  # twice is once
    assert gate.admit("192.0.2.1").refused == ""
    assert gate.admission.refused.total() == 2 and gate.admission.open == 3


def test_a_customers_whole_network_counts_as_one():
    gate = Gate(per_address=1)
    assert gate.admit("2001:db8::1").refused == ""
    assert gate.admit("2001:db8:0:1::1").refused == "" and gate.ended == []
    assert gate.admit("2001:db8::ffff").refused == "" and gate.ended == ["2001:db8::1"]


def test_unix_peers_meet_the_servers_limits_only():
    gate = Gate(per_address=1, address_rate=1.0, address_burst=1, connections=3)
    for _ in range(3):
        gate.admission.log_in(gate.admit(""))
    assert gate.admission.refused.total() == 0
    assert gate.admit("").refused == "too many connections"


def test_who_comes_too_fast_waits_and_is_refused_when_that_would_be_long():
    gate = Gate(address_rate=1.0, address_burst=2, rate=10.0, burst=8)
    delays = [gate.admit("192.0.2.1").delay for _ in range(7)]
    assert delays == [0, 0, 1, 2, 3, 4, 5]
    assert gate.admit("192.0.2.1").refused == FAST_ONE
    others = [gate.admit(f"192.0.2.{n}") for n in range(2, 60)]
    assert [one.delay for one in others[:3]] == [0, 0.1, 0.2]
    assert {one.refused for one in others} == {"", FAST}
    assert gate.admit("192.0.2.99", 1.0).refused == ""


def test_a_login_gives_its_tokens_back():
    gate = Gate(address_rate=1.0, address_burst=1, rate=1.0, burst=1)
    for _ in range(50):
        ticket = gate.admit(HOME)
        assert (ticket.refused, ticket.delay) == ("", 0)
        gate.admission.log_in(ticket)
        gate.admission.leave(ticket)


def test_the_oldest_login_under_way_makes_room():
    gate = Gate(startups=3)
    tickets = gate.admits(3)
    gate.admission.log_in(tickets[0])
    gate.admits(3, first=3)
    assert gate.ended == ["10.0.0.1", "10.0.0.2"]
    assert gate.admission.starting == 3 and gate.admission.open == 4
    assert gate.admission.refused == {"ended to make room for another login": 2}


def test_a_network_with_many_makes_room_before_others():
    gate = Gate(startups=10)
    gate.admit(HOME)
    for _ in range(9):
        gate.admit("192.0.2.66")
    gate.admits(3)
    assert gate.ended == ["192.0.2.66"] * 3


def test_who_offered_an_authorised_key_makes_room_last_and_yet_does():
    gate = Gate(startups=2)
    first, second = gate.admits(2)
    gate.admission.offer(first)
    gate.admits(1, first=2)
    assert gate.ended == ["10.0.0.1"] and second.left
    gate = Gate(startups=2)
    for ticket in gate.admits(2):
        gate.admission.offer(ticket)
    assert gate.admits(1, first=2)[0].left is False and gate.ended == ["10.0.0.0"]


def test_strangers_take_nothing_from_networks_that_are_known():
    gate = Gate(known={HOME, OFFICE}, connections=100, per_address=5, rate=1.0, burst=10,
                address_rate=1.0, address_burst=2, startups=20, reserved=4)
    waiting = [gate.admit(HOME), gate.admit(OFFICE)]
    strangers = gate.admits(1000)
    assert sum(not one.refused for one in strangers) == 15
    for _ in range(20):  # each of two operators, one login after the other
        for address in (HOME, OFFICE):
            ticket = gate.admit(address)
            assert (ticket.refused, ticket.delay) == ("", 0)
            gate.admission.log_in(ticket)
            gate.admission.leave(ticket)
    assert not any(one.left for one in waiting)


def test_strangers_give_way_to_known_ones_when_all_connections_are_taken():
    gate = Gate(known={HOME}, connections=3, reserved=1)
    strangers = gate.admits(3)
    gate.admission.log_in(gate.admit(HOME))  # one more than others may have
    assert gate.ended == []
    assert gate.admit(HOME).refused == "" and gate.ended == ["10.0.0.0"]
    for ticket in strangers:
        gate.admission.log_in(ticket)
    gate.admits(1, first=3)  # its room is that of no one: everybody has logged in
    assert gate.admission.refused["too many connections"] == 1


def test_wrong_keys_from_a_known_address_slow_it_and_refuse_nobody():
    gate = Gate(known={HOME}, per_address=64, rate=20.0, burst=60, reserved=50)
    now = 0.0
    for _ in range(200):  # one login attempt after the other, 50 a second where it may
        ticket = gate.admit(HOME, now)
        assert not ticket.refused
        now += max(0.02, ticket.delay)
        gate.admission.leave(ticket)
    ticket = gate.admit(HOME, now)
    assert ticket.refused == "" and ticket.delay <= 0.05


@pytest.mark.parametrize("known", [(), {HOME}])
def test_one_known_network_cannot_take_the_share_of_another(known):
    gate = Gate(known={*known, OFFICE}, reserved=10, per_address=64)
    held = gate.admit(OFFICE)
    for _ in range(60):
        gate.admit(HOME)
    assert not held.left


def test_memory_is_bounded():
    gate = Gate(address_rate=1.0, address_burst=1)
    for ticket in gate.admits(10_000):
        gate.admission.leave(ticket)
    admission = gate.admission
    assert len(admission._buckets) == 8192
    assert not admission._counts and not admission._startups and admission.open == 0
