"""What the arbiter does to the CPU priority of processes that start."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from apihour.books import priority as module
from apihour.books.priority import FOR_GOOD, NICE, Priority, can_undo, yield_for_good
from tests.apihour.fake_crew import Clock, FakeLog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux keeps it per thread")
BASE = os.getpriority(os.PRIO_PROCESS, 0)
LOWERED = min(BASE + NICE, 19)
mine = os.geteuid()


@pytest.fixture
def undoable() -> None:
    if not can_undo():
        pytest.skip("needs CAP_SYS_NICE or RLIMIT_NICE")


class Child:
    """A process that sleeps; `start` has it start three threads more."""

    def __init__(self) -> None:
        self._said, saying = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGUSR1, partial(_start_threads, saying))
            os.write(saying, b"x")
            while True:
                time.sleep(60)
        os.close(saying)
        os.read(self._said, 1)

    def start(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)
        os.read(self._said, 1)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._said)


def _start_threads(saying: int, *_: Any) -> None:
    for _each in range(3):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    os.write(saying, b"x")


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.end()


def nices(pid: int) -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}


def make() -> Priority:
    return Priority(FakeLog())  # type: ignore[arg-type]


def test_lowered_and_set_back_with_every_thread_it_started(undoable: None, child: Child) -> None:
    priority = make()
    priority.lower(child.pid, mine, 60.0)
    child.start()
    assert len(os.listdir(f"/proc/{child.pid}/task")) == 4
    assert nices(child.pid) == {LOWERED}
    priority.restore(child.pid)
    assert nices(child.pid) == {BASE}


def test_one_that_was_not_lowered_is_left_alone(child: Child) -> None:
    priority = make()
    os.setpriority(os.PRIO_PROCESS, child.pid, LOWERED)
    priority.restore(child.pid)
    priority.lower(child.pid, mine, 60.0)
    priority.forget(child.pid)
    priority.restore(child.pid)
    assert nices(child.pid) == {LOWERED}


@pytest.mark.parametrize(("chosen", "left"), [
    (LOWERED + 2, BASE + 2),  # os.nice(2), as at a start that was not lowered
    (LOWERED - 2, LOWERED - 2),
])
def test_a_nice_value_of_the_applications_own_stays(
    undoable: None, child: Child, chosen: int, left: int
) -> None:
    priority = make()
    priority.lower(child.pid, mine, 60.0)
    os.setpriority(os.PRIO_PROCESS, child.pid, chosen)
    priority.restore(child.pid)
    assert nices(child.pid) == {left}


def test_it_ends_after_a_part_of_the_boot_timeout(
    undoable: None, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    priority = make()
    priority.lower(child.pid, mine, 60.0)
    clock.now += 7.4
    priority.expire()
    assert nices(child.pid) == {LOWERED}
    clock.now += 0.2
    priority.expire()
    assert nices(child.pid) == {BASE}


def test_a_nice_value_that_could_not_be_taken_back_is_not_given(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "can_undo", lambda: False)
    make().lower(child.pid, mine, 60.0)
    assert nices(child.pid) == {BASE}


def test_a_process_that_becomes_another_users_needs_a_privilege(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_has_cap_sys_nice", lambda: False)
    make().lower(child.pid, mine + 1, 60.0)
    assert nices(child.pid) == {BASE}


def test_an_operators_policy_stays(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getscheduler", lambda pid: os.SCHED_BATCH)
    make().lower(child.pid, mine, 60.0)
    assert nices(child.pid) == {BASE}


def test_one_that_is_gone_costs_nothing() -> None:
    gone, priority = Child(), make()
    gone.end()
    priority.lower(gone.pid, mine, 60.0)
    priority.restore(gone.pid)


def test_for_good_needs_no_privilege_and_is_not_added_twice() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        yield_for_good()
        yield_for_good()
        os.write(writing, b"%d" % os.getpriority(os.PRIO_PROCESS, 0))
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(reading, 10)) == min(BASE + FOR_GOOD, 19)
    os.close(reading)
    os.close(writing)
