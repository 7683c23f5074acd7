"""The number, the wear and the deadlines of workers."""

from __future__ import annotations

import errno
import math
import mmap
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.arbiter import keep, losses, replacing, stuck
from apihour.arbiter.keep import WorkerKeeper
from apihour.arbiter.losses import Losses
from apihour.arbiter.replacing import Replacements, resident_bytes
from apihour.errors import HookError
from apihour.ipc.scoreboard import Figure, WorkerState
from tests.apihour.fake_crew import Clock, FakeCrew


class House:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.clock = Clock()
        self.kills: list[tuple[int, int]] = []
        for module in (keep, losses, replacing):
            monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(stuck.os, "kill", lambda pid, sig: self.kills.append((pid, sig)))
        monkeypatch.setattr(stuck, "dump_stack", lambda runtime, pid: f"stack of {pid}")
        self.crew = FakeCrew(self.clock, **options)
        self.keeper = WorkerKeeper(self.crew.books, self.crew)
        self.losses = Losses(self.crew.books, self.keeper)
        self.replacements = Replacements(self.crew.books, self.keeper, self.crew)

    def turn(self, seconds: float = 0.0, beat: bool = True) -> None:
        self.clock.now += seconds
        if beat:
            for worker in self.crew.workers:
                worker.row.heartbeat = self.clock.now
        self.keeper.advance()
        self.replacements.advance()
        self.keeper.enforce()

    def up(self) -> list[Any]:
        """All wanted workers, ready."""
        self.turn()
        self.crew.ready()
        return list(self.crew.workers)

    def lose(self, worker: Any) -> float:
        self.crew.remove(worker)
        return self.losses.put_off(worker)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.crew, name)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda **options: House(monkeypatch, **options)


def test_spawns_what_is_missing_and_retires_what_is_too_many(make: Any) -> None:
    house = make(workers=3)
    house.turn()
    house.turn()
    assert house.names() == ["1.1", "2.1", "3.1"]
    house.crew.books.num_workers = 1
    house.turn()
    assert (house.names(), house.retired) == (["1.1"], ["2.1", "3.1"])


def test_leaves_the_number_alone_while_a_reload_replaces(make: Any) -> None:
    house = make()
    # Which of the two belongs into a slot, it knows best.
    house.crew.books.reload = SimpleNamespace(has_replaced=True)
    house.turn()
    assert house.names() == []


@pytest.mark.parametrize("state", ["serving", "reloading"])
def test_the_dead_are_replaced_as_long_as_the_old_serve(make: Any, state: str) -> None:
    house = make(workers=2)
    first, _ = house.up()
    house.clock.now += 60
    house.lose(first)
    if state == "reloading":
        house.crew.books.reload = SimpleNamespace(has_replaced=False)
        house.crew.spawn(3, 2, [], house.crew.books.cfg)  # of the new generation
    house.turn()
    assert house.names()[:2] == ["1.1", "2.1"]
    assert house.retired == []


def test_a_hook_that_fails_is_tried_later_and_later(make: Any) -> None:
    house = make(workers=1)
    house.crew.spawn_error = HookError("hook pre_fork failed: c.py:1: ...")
    house.turn()
    assert house.names() == []
    assert "hook pre_fork failed" in house.crew.log.lines[-1]
    house.crew.spawn_error = None
    house.turn()
    assert house.names() == []
    house.turn(0.2)
    assert house.names() == ["1.1"]


def test_one_that_was_told_to_go_goes_even_when_it_answers_again(make: Any) -> None:
    house = make(workers=1, timeout=10)
    (worker,) = house.up()
    house.turn(5.1, beat=False)
    house.turn(5.0, beat=False)
    house.turn(0.5)
    assert house.kills == [(worker.pid, signal.SIGABRT)]
    house.turn(0.6)
    assert house.kills[-1] == (worker.pid, signal.SIGKILL)


def test_workers_of_another_generation_do_not_count(make: Any) -> None:
    house = make(workers=1)
    house.up()
    house.crew.books.generation = 2
    house.turn()
    assert house.names() == ["1.1", "1.2"]


def test_the_first_death_of_a_serving_worker_is_replaced_at_once(make: Any) -> None:
    house = make()
    first, _ = house.up()
    house.clock.now += 60
    assert house.lose(first) == 0.0
    house.turn()
    assert house.names() == ["1.1", "2.1"]


def test_a_slot_that_keeps_failing_waits_longer_and_longer_the_others_go_on(make: Any) -> None:
    house = make()
    house.turn()
    delays = []
    for _ in range(8):
        (failing,) = [w for w in house.crew.workers if w.slot == 1]
        delays.append(house.lose(failing))
        house.turn()
        assert [w.slot for w in house.crew.workers] == [2]
        assert house.keeper.is_busy()
        house.turn(delays[-1] + 0.001)
        assert sorted(w.slot for w in house.crew.workers) == [1, 2]
    assert delays == [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0]


def test_a_healthy_life_starts_the_count_again(make: Any) -> None:
    house = make(workers=1)
    for _ in range(4):
        house.turn(20)
        house.lose(house.crew.workers[0])
    house.turn(20)
    (worker,) = house.up()
    house.turn(20)
    assert house.lose(worker) == 0.0


def test_dying_soon_after_ready_backs_off_too(make: Any) -> None:
    house = make(workers=1)
    delays = []
    for _ in range(3):
        house.turn(11)
        (worker,) = house.up()
        delays.append(house.lose(worker))
    assert delays == [0.0, 0.1, 0.5]


def test_a_reload_forgets_what_failed(make: Any) -> None:
    house = make(workers=1)
    house.turn()
    house.lose(house.crew.workers[0])
    house.keeper.on_new_generation()
    assert not house.keeper.is_busy()
    house.turn()
    assert len(house.crew.workers) == 1


def test_out_of_processes_is_logged_and_tried_again(make: Any) -> None:
    house = make(workers=1)
    house.crew.spawn_error = OSError(errno.EAGAIN, "no more processes")
    house.turn()
    house.turn()
    (line,) = house.crew.log.lines
    assert line == "Worker slot 1: no new process: no more processes; next try in 0.1 s"
    house.crew.spawn_error = None
    house.turn(0.2)
    assert house.names() == ["1.1"]


WORN: dict[str, tuple[dict[str, Any], Any]] = {
    "--max-requests": ({"max_requests": 100}, lambda w: setattr(w.row, "requests", 100.0)),
    "--max-age": ({"max_age": 60.0}, lambda w: setattr(w, "spawned", w.spawned - 61)),
    "--max-rss": ({"max_rss": 1}, lambda w: setattr(w, "pid", os.getpid())),
}


@pytest.mark.parametrize("why", WORN)
def test_a_worn_worker_leaves_when_its_replacement_is_ready(make: Any, why: str) -> None:
    options, wear = WORN[why]
    house = make(workers=1, **options)
    (worn,) = house.up()
    house.turn(1.1)
    assert house.crew.workers == [worn]
    wear(worn)
    house.turn(1.1)
    house.turn(1.1)
    fresh = [w for w in house.crew.workers if w is not worn]
    assert len(fresh) == 1 and house.retired == []
    assert any(why in line for line in house.crew.log.lines)
    assert house.replacements.is_busy()
    house.crew.ready()
    house.turn()
    assert house.crew.workers == fresh
    assert house.retired == [worn.name]


def test_a_replacement_that_fails_is_tried_again_later_the_old_one_serves(make: Any) -> None:
    house = make(workers=1, max_requests=10)
    (worn,) = house.up()
    worn.row.requests = 10.0
    tries = 0
    for _ in range(30):
        house.turn(1.1)
        for fresh in [w for w in house.crew.workers if w is not worn]:
            tries += 1
            house.lose(fresh)
        assert worn in house.crew.workers
    assert 3 <= tries <= 8


def test_max_requests_have_jitter(make: Any) -> None:
    house = make(workers=1, max_requests=100, max_requests_jitter=50)
    (worker,) = house.up()
    dues = set()
    for _ in range(200):
        worker.due = 0
        house.turn(1.1)
        dues.add(worker.due)
    assert min(dues) >= 100 and max(dues) <= 150 and len(dues) > 5


def test_one_that_is_not_ready_in_time_is_killed_after_its_stack_was_logged(make: Any) -> None:
    house = make(workers=1, boot_timeout=10.0)
    house.turn()
    (worker,) = house.crew.workers
    house.turn(9.9, beat=False)
    assert (worker.failure, house.kills) == (None, [])
    house.turn(0.2, beat=False)
    house.turn()
    assert worker.failure == (
        "worker 1.1 was not ready within 10 s (--boot-timeout)", f"stack of {worker.pid}")
    assert house.kills == [(worker.pid, signal.SIGKILL)]
    assert f"stack of {worker.pid}" in house.crew.log.lines[-1]


def test_a_blocked_start_is_reported_with_what_was_under_way_and_its_line(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = f'Current thread 0x7 (most recent call first):\n  File "{__file__}", line 1 in start'
    house = make(workers=1, boot_timeout=10.0)
    monkeypatch.setattr(stuck, "dump_stack", lambda runtime, pid: dump)
    house.turn()
    (worker,) = house.crew.workers
    worker.under_way = "container app:Container: start()"
    house.turn(10.1, beat=False)
    assert worker.failure == (
        "container app:Container: start() was not done within 10 s (--boot-timeout): "
        f'{__file__}:1: """The number, the wear and the deadlines of workers."""', dump)


def test_one_whose_loop_turns_has_time_to_say_why_itself(make: Any) -> None:
    house = make(workers=1, boot_timeout=10.0)
    house.turn()
    (worker,) = house.crew.workers
    house.turn(11.9)
    assert (worker.failure, house.kills) == (None, [])
    house.turn(0.2)
    assert house.kills == [(worker.pid, signal.SIGKILL)]


def test_one_that_failed_has_time_for_its_cleanup_and_no_more(make: Any) -> None:
    house = make(workers=1)
    house.turn()
    (worker,) = house.crew.workers
    worker.failure = "container app:Container: start() failed", ""
    house.turn(1.0)
    house.turn(4.9)
    assert house.kills == []
    house.turn(0.2)
    house.turn(0.1)
    assert house.kills == [(worker.pid, signal.SIGKILL)]
    assert "has not cleaned up" in house.crew.log.lines[-1]


def test_the_line_of_a_blocked_worker_names_where(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make(workers=1, timeout=10)
    house.up()
    stack = ('Current thread 0x1 (most recent call first):\n'
             '  File "/srv/shop/orders.py", line 7 in load\n')
    monkeypatch.setattr(stuck, "dump_stack", lambda runtime, pid: stack)
    house.turn(5.1, beat=False)
    (line,) = house.crew.log.lines
    assert line.partition("\n")[0].endswith(" is blocked for 5.1 s in /srv/shop/orders.py:7:")


def test_a_blocked_worker_stack_then_abort_then_kill(make: Any) -> None:
    house = make(workers=1, timeout=10)
    (worker,) = house.up()
    house.turn(4.9, beat=False)
    assert house.crew.log.lines == []
    house.turn(0.2, beat=False)
    house.turn(1.0, beat=False)
    (line,) = house.crew.log.lines
    assert line == f"Worker 1.1 (pid: {worker.pid}) is blocked for 5.1 s:\nstack of {worker.pid}"
    assert (house.kills, worker.row.blocks) == ([], 1)
    house.turn(4.0, beat=False)
    assert house.kills == [(worker.pid, signal.SIGABRT)]
    assert "WORKER TIMEOUT: 1.1" in house.crew.log.lines[-1]
    assert house.counted == [Figure.TIMEOUTS]
    house.turn(0.5, beat=False)
    assert len(house.kills) == 1
    house.turn(0.6, beat=False)
    assert house.kills[-1] == (worker.pid, signal.SIGKILL)


def test_the_next_step_against_a_blocked_worker_is_due_when_it_says(make: Any) -> None:
    """So that the loop looks then: a second later would be the end of a short timeout."""
    house = make(workers=1, timeout=2)
    assert house.keeper.until_deadline() == math.inf
    (worker,) = house.up()
    for due, happened in ((1.0, "stack of"), (1.0, "TIMEOUT"), (keep._ABORT_TIME, "TIMEOUT")):
        assert house.keeper.until_deadline() == pytest.approx(due, abs=0.03)
        house.turn(due + 0.01, beat=False)
        assert happened in house.crew.log.lines[-1]
    assert house.kills[-1] == (worker.pid, signal.SIGKILL)
    worker.aborted_at, worker.row.state = 0.0, WorkerState.EXITING
    assert house.keeper.until_deadline() == math.inf


def test_one_that_comes_back_is_forgiven(make: Any) -> None:
    house = make(workers=1, timeout=10)
    (worker,) = house.up()
    house.turn(6.0, beat=False)
    house.turn(0.1)
    assert not worker.stack_logged
    house.turn(6.0, beat=False)
    assert worker.row.blocks == 2
    assert house.kills == []


def test_no_timeout_and_leaving_workers_are_let_be(make: Any) -> None:
    house = make(workers=1, timeout=0)
    (worker,) = house.up()
    house.turn(1000, beat=False)
    worker.cfg.timeout = 10
    worker.row.state = WorkerState.EXITING
    house.turn(1000, beat=False)
    assert (house.kills, house.crew.log.lines) == ([], [])


def test_a_retiring_worker_that_blocks_is_seen(make: Any) -> None:
    house = make(workers=1, timeout=10)
    (worker,) = house.up()
    house.crew.remove(worker)
    house.crew.books.retiring[worker.pid] = worker
    house.turn(11.0, beat=False)
    assert (worker.pid, signal.SIGABRT) in house.kills


def test_numbers_from_proc() -> None:
    assert resident_bytes(os.getpid()) > 2**20
    assert resident_bytes(2**22 + 1) == 0


def test_a_table_that_workers_share_is_no_memory_of_one_of_them() -> None:
    size = 2**26
    before = resident_bytes(os.getpid())
    with mmap.mmap(-1, size) as shared:
        for page in range(0, size, mmap.PAGESIZE):
            shared[page] = 1
        assert resident_bytes(os.getpid()) - before < size // 2
    own = bytearray(b"x") * size
    assert resident_bytes(os.getpid()) - before > size // 2
    del own
