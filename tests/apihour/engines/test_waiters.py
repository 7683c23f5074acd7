"""Who waits, in the order of asking, with one timer for all."""

import asyncio

import pytest

from apihour.engines.waiters import Waiters
from tests.apihour.engines.support import until


class Timers:
    """The running loop, which counts the timers that are made."""

    def __init__(self):
        self.made = 0
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_at(self, *words):
        self.made += 1
        return self._loop.call_at(*words)


@pytest.fixture
async def loop():
    return Timers()


async def test_the_first_is_served_first_and_who_left_is_passed_over(loop):
    waiters = Waiters(loop)
    first, second, third = [waiters.add(loop.time() + 60) for _ in range(3)]
    first.cancel()
    assert waiters.left(first) is None and waiters.unserved == 2
    assert waiters.serve("a") and waiters.serve("b") and not waiters.serve("c")
    assert (await second, await third, waiters.unserved) == ("a", "b", 0)


async def test_who_leaves_with_it_in_his_hand_is_told_what_it_is(loop):
    waiters = Waiters(loop)
    waiter = waiters.add(loop.time() + 60)
    waiters.serve("a")
    assert waiters.left(waiter) == "a" and waiters.unserved == 0


async def test_each_wait_ends_at_its_own_time(loop):
    waiters = Waiters(loop)
    began = loop.time()
    late, early, gone = waiters.add(began + 0.3), waiters.add(began + 0.1), waiters.add(began + 0.2)
    gone.cancel()
    waiters.left(gone)
    with pytest.raises(TimeoutError):
        await early
    assert loop.time() - began > 0.09 and not late.done() and waiters.unserved == 1
    with pytest.raises(TimeoutError):
        await late
    assert loop.time() - began > 0.29 and waiters.unserved == 0 and waiters.left(late) is None


async def test_a_thousand_waits_cost_one_timer(loop):
    waiters = Waiters(loop)
    for number in range(1000):
        waiter = waiters.add(loop.time() + 60)
        waiters.serve(number)
        assert await waiter == number
    assert loop.made == 1


async def test_the_timer_is_made_again_for_those_that_came_later(loop):
    waiters = Waiters(loop)
    served = waiters.add(loop.time() + 0.05)
    waiters.serve(1)
    later = waiters.add(loop.time() + 0.1)
    await until(later.done)
    assert await served == 1 and isinstance(later.exception(), TimeoutError)
    assert loop.made <= 4
