"""The moment at which a kept connection may be ended, without a clock."""

import pytest

from apihour_ssh.parting import Parting


def kept(*pauses):
    """A connection whose sessions came after these pauses, and the time of its last one's end."""
    now = 100.0
    parting = Parting(now)
    for pause in (0.01, *pauses):
        now += pause
        parting.opened(now, True)
        now += 3.0
        parting.emptied(now)
    return parting, now


def test_a_login_is_waited_for():
    parting = Parting(100.0)
    assert not parting.is_time(109.0) and parting.is_time(110.5)


def test_after_its_only_session_a_client_may_leave_by_itself():
    parting, now = kept()
    assert not parting.is_time(now + 1.9) and parting.is_time(now + 2.1)


@pytest.mark.parametrize("pause", [0.06, 0.2, 1.0, 4.0])
def test_a_quarter_into_the_usual_pause_is_the_moment(pause):
    parting, now = kept(pause, pause * 1.2, pause * 1.1)
    assert parting.wait == pytest.approx(min(pause / 4, 2.0))
    times = [part for part in range(1, 20, 2) if parting.is_time(now + pause * part / 16)]
    assert times == [5, 7, 9, 11]  # and not when the next is due


def test_a_client_that_has_stopped_is_not_waited_for():
    parting, now = kept(0.5, 3.0)
    assert not parting.is_time(now + 1.0)
    assert parting.is_time(now + 6.0)


def test_a_client_without_pauses_is_left_to_go_on():
    parting, now = kept(0.001, 0.5, 0.002)
    assert not parting.is_time(now + 0.5) and parting.is_time(now + 2.0)


def test_a_pause_shorter_than_the_way_there_and_back_is_none():
    parting, now = kept(0.2, 0.2)
    assert parting.is_time(now + 0.1)
    parting.rtt = 0.15
    assert not parting.is_time(now + 0.1) and parting.is_time(now + 2.0)


def test_sessions_side_by_side_are_no_pause():
    parting = Parting(0.0)
    parting.opened(1.0, True)
    parting.opened(1.0, False)
    parting.emptied(5.0)
    assert parting.wait == 2.0
