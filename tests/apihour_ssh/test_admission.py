"""Who may begin a login, when, and who makes room: without a socket or a clock."""

import pytest

from apihour_ssh.admission import Admission
from apihour_ssh.limits import Limits

NEVER = float("inf")
HOME, OFFICE = "198.51.100.1", "198.51.100.2"


class Gate:
    """An admission and the connections that were ended for others."""

    def __init__(self, known=(), **numbers):
        facts = {"connections": 0, "per_address": 0, "rate": 0.0, "address_rate": 0.0,
                 "startups": 0, "reserved": 0, "waiting": 0, **numbers}
        self.admission = Admission(Limits(**facts), 0.0, known)
        self.ended = []

    def admit(self, address, now=0.0):
        ticket = self.admission.admit(address, now)
        ticket.end = lambda: self.ended.append(address)
        return ticket

    def ask(self, address, now=0.0):
        """A connection that has sent its version, and every turn that this makes."""
        ticket = self.admit(address, now)
        self.admission.ask(ticket, now)
        self.turns(now)
        return ticket

    def turns(self, now):
        """Give every turn that there is; returns the seconds until the next."""
        while True:
            ticket, wait = self.admission.turn(now)
            if ticket is None:
                return wait

    def asks(self, count, first=0, now=0.0):
        """Connections from so many different addresses that have sent their version."""
        return [self.ask(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", now)
                for n in range(first, first + count)]

    def admits(self, count, first=0):
        """Connections from so many different addresses, that say nothing."""
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


def test_who_comes_too_fast_waits_for_its_turn():
    gate = Gate(address_rate=1.0, address_burst=2, rate=10.0, burst=4)
    mine = [gate.ask("192.0.2.1") for _ in range(4)]
    assert [one.begun for one in mine] == [True, True, False, False]
    assert gate.turns(0.0) == 1.0
    others = gate.asks(4)
    assert [one.begun for one in others] == [True, True, False, False]
    assert gate.turns(0.0) == pytest.approx(0.1)
    assert gate.turns(0.15) == pytest.approx(0.05) and others[2].begun and not others[3].begun
    assert gate.turns(1.0) > 0 and others[3].begun and mine[2].begun and not mine[3].begun
    gate.admission.leave(mine[3])
    assert gate.turns(2.0) == NEVER


def test_to_connect_takes_no_turn_and_ends_nobody_who_has_asked():
    gate = Gate(waiting=10, startups=10, rate=1.0, burst=2)
    begun, waits = gate.asks(2), gate.asks(5, first=2)
    strangers = gate.admits(1000, first=1000)
    assert not any(one.left for one in [*begun, *waits])
    assert [one.left for one in strangers] == [True] * 990 + [False] * 10
    late = gate.ask(HOME)
    for second in range(1, 6):
        assert gate.turns(second) == 1.0 and not late.begun
    assert gate.turns(6) == NEVER and late.begun and all(one.begun for one in waits)


def test_to_ask_ends_no_login_under_way():
    gate = Gate(waiting=10, startups=10, rate=1.0, burst=2)
    begun = gate.asks(2)
    gate.asks(1000, first=2)
    assert not any(one.left for one in begun) and gate.admission.starting == 12


def test_who_has_failed_a_moment_ago_waits_behind_the_others():
    gate = Gate(rate=1.0, burst=1, waiting=4)
    gate.admission.leave(gate.ask("192.0.2.66"))
    failed = [gate.ask("192.0.2.66") for _ in range(3)]
    fresh = gate.ask(HOME)
    assert gate.turns(1.0) > 0.0 and fresh.begun and not any(one.begun for one in failed)
    gate.admission.log_in(fresh)
    assert gate.turns(2.0) > 0.0 and failed[0].begun
    gate.asks(3, first=9)
    assert failed[1].left  # and makes room before them
    gate.admission.leave(fresh)
    assert not gate.admission._failed(failed[0], 60.0)  # it is forgotten


def test_a_key_that_is_authorised_is_no_failure():
    gate = Gate(rate=1.0, burst=1)
    first = gate.ask(HOME)
    gate.admission.offer(first)
    gate.admission.leave(first)  # the connection broke
    gate.asks(3)
    assert not gate.admission._failed(gate.ask(HOME, 1.0), 1.0)


def test_a_login_gives_its_tokens_back():
    gate = Gate(address_rate=1.0, address_burst=1, rate=1.0, burst=1)
    for _ in range(50):
        ticket = gate.ask(HOME)
        assert ticket.begun
        gate.admission.log_in(ticket)
        gate.admission.leave(ticket)


def test_the_oldest_login_under_way_makes_room():
    gate = Gate(startups=3)
    tickets = gate.asks(3)
    gate.admission.log_in(tickets[0])
    gate.asks(3, first=3)
    assert gate.ended == ["10.0.0.1", "10.0.0.2"]
    assert gate.admission.starting == 3 and gate.admission.open == 4
    assert gate.admission.refused == {"ended to make room for another login": 2}


def test_a_network_with_many_makes_room_before_others():
    gate = Gate(startups=10)
    gate.ask(HOME)
    for _ in range(9):
        gate.ask("192.0.2.66")
    gate.asks(3)
    assert gate.ended == ["192.0.2.66"] * 3


def test_who_offered_an_authorised_key_makes_room_last_and_yet_does():
    gate = Gate(startups=2)
    first, second = gate.asks(2)
    gate.admission.offer(first)
    gate.asks(1, first=2)
    assert gate.ended == ["10.0.0.1"] and second.left
    gate = Gate(startups=2)
    for ticket in gate.asks(2):
        gate.admission.offer(ticket)
    assert gate.asks(1, first=2)[0].left is False and gate.ended == ["10.0.0.0"]


def test_strangers_take_nothing_from_networks_that_are_known():
    gate = Gate(known={HOME, OFFICE}, connections=100, per_address=5, rate=1.0, burst=10,
                address_rate=1.0, address_burst=2, startups=20, reserved=4, waiting=30)
    waiting = [gate.admit(HOME), gate.admit(OFFICE)]
    strangers = gate.asks(1000)
    assert sum(one.begun for one in strangers) == 10
    assert sum(not one.left for one in strangers) == 40
    for _ in range(20):  # each of two operators, one login after the other
        for address in (HOME, OFFICE):
            ticket = gate.ask(address)
            assert ticket.begun
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
        ticket = gate.ask(HOME, now)
        while not ticket.begun:
            now += gate.turns(now) + 1e-6
        now += 0.02
        gate.admission.leave(ticket)
    ticket = gate.ask(HOME, now)
    assert ticket.begun or gate.turns(now) <= 0.05


@pytest.mark.parametrize("known", [(), {HOME}])
def test_one_known_network_cannot_take_the_share_of_another(known):
    gate = Gate(known={*known, OFFICE}, reserved=10, per_address=64)
    held = gate.admit(OFFICE)
    for _ in range(60):
        gate.admit(HOME)
    assert not held.left


def test_memory_is_bounded():
    gate = Gate(address_rate=1.0, address_burst=1)
    for ticket in gate.asks(10_000):
        gate.admission.leave(ticket)
    admission = gate.admission
    assert len(admission._buckets) == len(admission._in_vain) == 8192
    assert not admission._counts and not any(admission._asking)
    assert admission.starting == admission.open == 0
