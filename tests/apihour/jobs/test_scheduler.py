"""Jobs of several workers over one store in memory, on a clock that the tests move."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

import pytest

import apihour
from apihour.errors import JobError, SharedError
from apihour.jobs import Jobs, see_jobs
from apihour.jobs.job_record import JobRecord
from apihour.jobs.scheduler import PREFIX
from apihour.ops.telling import Teller
from tests.apihour.jobs.memory import Clock, Memory
from tests.apihour.loops import wait_until

LEASE = 10.0


class Work:
    """What the jobs of all workers did, and what they wait for."""

    def __init__(self) -> None:
        self.began: list[tuple[str, str]] = []
        self.runs: list[apihour.JobRun] = []
        self.go = asyncio.Event()
        self.cancelled = 0
        self.error: BaseException = ValueError()


class Container(apihour.Container):
    work: Work

    @apihour.every("1m")
    async def tick(self) -> None:
        self.work.began.append(("tick", self.worker))

    @apihour.every("1m", misfire="once")
    async def sure(self) -> None:
        self.work.began.append(("sure", self.worker))

    async def _long(self, name: str, run: apihour.JobRun) -> None:
        self.work.began.append((name, self.worker))
        self.work.runs.append(run)
        try:
            await self.work.go.wait()
        except asyncio.CancelledError:
            self.work.cancelled += 1
            raise

    @apihour.every("1m")
    async def long(self, run: apihour.JobRun) -> None:
        await self._long("long", run)

    @apihour.every("1m", overlap="queue", misfire="once")
    async def queued(self, run: apihour.JobRun) -> None:
        await self._long("queued", run)

    @apihour.every("1m", drain="move")
    async def moving(self, run: apihour.JobRun) -> None:
        await self._long("moving", run)

    @apihour.every("1m")
    async def raising(self) -> None:
        raise self.work.error

    @apihour.every("1m", misfire="once")
    async def deaf(self) -> None:
        self.work.began.append(("deaf", self.worker))
        while not self.work.go.is_set():
            try:
                await self.work.go.wait()
            except asyncio.CancelledError:
                self.work.cancelled += 1

    @apihour.every("1m")
    async def failing(self) -> None:
        raise ValueError("no mail server")


async def turns() -> None:
    """Turns of the loop, so many that all which needs no time is done."""
    for _ in range(30):
        await asyncio.sleep(0)


class Crew:
    """Workers of one daemon, in one loop; each has those of the jobs that `names` says."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.clock = Clock()
        self.memory = Memory(self.clock)
        self.work = Work()
        self.workers = [self.worker("1.1"), self.worker("2.1")]

    def worker(self, name: str) -> Jobs:
        container = Container(worker=name)
        container.work = self.work
        specs = {name: spec for name, spec in see_jobs(container).items() if name in self.names}
        return Jobs(specs, lambda: self.memory, name, logging.getLogger("jobs"), lease=LEASE,
                    clock=self.clock)

    async def look(self, *workers: Jobs) -> None:
        """All of them look at the clock at once; what begins has its first turns."""
        await asyncio.gather(*(one.look() for one in workers or self.workers))
        await turns()

    async def pass_(self, seconds: float, *workers: Jobs) -> None:
        self.clock.now += seconds
        await self.look(*workers)

    async def record(self) -> JobRecord:
        entry = await self.memory.get(PREFIX + self.names[0])
        assert entry is not None
        return JobRecord.from_bytes(entry.value)

    @property
    def count(self) -> int:
        return len(self.work.began)


class Speechless(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


@pytest.mark.parametrize(("error", "result"), [
    (ValueError("evil\x1b[31m\r\nline 2"), r"failed: ValueError: evil\x1b[31m  line 2"),
    (Speechless(), "failed: Speechless, whose text fails: LookupError"),
    (asyncio.CancelledError(), "cancelled"),
], ids=["in lines", "speechless", "cancelled"])
async def test_whatever_it_raises_is_told_in_a_line(
    error: BaseException, result: str, caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew("raising")
    crew.work.error = error
    teller = Teller(lambda **told: None)
    logging.getLogger("jobs").addHandler(teller)
    try:
        await crew.look()
        await crew.pass_(60.0, crew.workers[1])
    finally:
        logging.getLogger("jobs").removeHandler(teller)
    (state,) = await crew.workers[0].states()
    assert (state.result, state.failures) == (result, 1)
    (record,) = caplog.records
    assert record.message.startswith("Worker 2.1: job 'raising' ")
    assert record.__dict__["apihour_event"] == "job raising"
    assert "not noted" not in caplog.text


async def test_one_of_two_workers_runs_it_each_time() -> None:
    crew = Crew("tick")
    await crew.look()
    assert crew.count == 0
    for number in range(1, 6):
        await crew.pass_(59.0)
        assert crew.count == number - 1
        await crew.pass_(1.0)
        assert crew.count == number
        await crew.look()
        assert crew.count == number
    (state,) = await crew.workers[0].states()
    assert (state.runs, state.failures, state.result, state.state) == (5, 0, "ok", "waiting")
    assert state.next == crew.clock.now + 60.0
    assert state.schedule == "1m"


async def test_however_often_two_look_at_once() -> None:
    crew = Crew("tick")
    crew.workers += [crew.worker(f"{slot}.1") for slot in range(3, 9)]
    await crew.look()
    for number in range(1, 50):
        crew.clock.now += 60.0
        for _ in range(3):
            await crew.look()
        assert crew.count == number


async def test_a_look_at_many_lets_others_have_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Crew("tick")
    worker, (spec,) = crew.workers[0], crew.workers[0]._specs.values()
    worker._specs = {f"tick{number}": dataclasses.replace(spec, name=f"tick{number}")
                     for number in range(50)}
    await worker.look()

    async def at_once(key: str) -> Any:  # as of the embedded store
        return crew.memory._get(key)

    monkeypatch.setattr(crew.memory, "get", at_once)
    looking, others = asyncio.ensure_future(worker.look()), 0
    while not looking.done():
        await asyncio.sleep(0)
        others += 1
    assert others >= 50


async def test_a_failure_is_logged_with_job_and_worker(caplog: pytest.LogCaptureFixture) -> None:
    crew = Crew("failing")
    await crew.look()
    await crew.pass_(60.0, crew.workers[1])
    assert "Worker 2.1: job 'failing' failed" in caplog.text
    assert "ValueError: no mail server" in caplog.text
    (state,) = await crew.workers[0].states()
    assert (state.result, state.failures) == ("failed: ValueError: no mail server", 1)
    await crew.pass_(60.0)
    assert (await crew.record()).failures == 2
    assert [sum(counts) for counts in zip(*(one.counts["failing"] for one in crew.workers),
                                          strict=True)] == [2, 2]


@pytest.mark.parametrize(("name", "times"), [("tick", 0), ("sure", 1)])
async def test_what_was_missed_is_left_out_or_made_up_for_once(name: str, times: int) -> None:
    crew = Crew(name)
    await crew.look()
    await crew.pass_(60.0 * 30 + 61.5)
    await crew.look()
    assert crew.count == times
    await crew.pass_(60.0)
    assert crew.count == times + 1


async def test_late_by_less_than_a_minute_is_no_miss() -> None:
    crew = Crew("tick")
    await crew.look()
    await crew.pass_(60.0 + 58.0)
    assert crew.count == 1
    assert (await crew.record()).next == crew.clock.now + 2.0  # in step still


async def test_a_clock_set_back_a_little_holds_no_interval_up_and_runs_nothing_twice() -> None:
    crew = Crew("tick")
    await crew.look()
    await crew.pass_(60.0)
    assert crew.count == 1
    await crew.pass_(-50.0)
    await crew.look()
    assert crew.count == 1
    await crew.pass_(59.0)
    assert crew.count == 1
    await crew.pass_(1.0)
    assert crew.count == 2
    await crew.pass_(-0.5)  # as a clock that is kept true goes back: in step still
    assert (await crew.record()).next == crew.clock.now + 60.5


async def test_a_run_that_takes_too_long_is_not_joined_by_another() -> None:
    crew = Crew("long")
    await crew.look()
    await crew.pass_(60.0)
    for _ in range(6):  # the lease is renewed by the run's own timer; here by hand
        await renew(crew)
        await crew.pass_(9.0)
    await renew(crew)
    await crew.pass_(6.0)
    assert crew.count == 1
    (state,) = await crew.workers[1].states()
    assert (state.state, state.took) == ("running", 60.0)
    crew.work.go.set()
    await wait_until(lambda: not crew.workers[0]._runs and not crew.workers[1]._runs)
    await crew.look()
    assert crew.count == 1  # the time that passed meanwhile is left out


async def renew(crew: Crew) -> None:
    for worker in crew.workers:
        for one in worker._running.values():
            assert await one.lease.renew()


async def test_or_is_followed_by_one_if_it_says_so() -> None:
    crew = Crew("queued")
    await crew.look()
    await crew.pass_(60.0)
    for _ in range(14):
        await renew(crew)
        await crew.pass_(9.0)
    assert crew.count == 1
    assert (await crew.record()).again
    crew.work.go.set()
    await wait_until(lambda: not crew.workers[0]._runs and not crew.workers[1]._runs)
    await crew.look()
    await crew.look()
    assert crew.count == 2  # two times had passed


async def test_a_stopped_worker_finds_its_token_stale(caplog: pytest.LogCaptureFixture) -> None:
    crew = Crew("queued")
    stopped, other = crew.workers
    await crew.look()
    await crew.pass_(60.0, stopped)
    (first,) = crew.work.runs
    await first.check()
    await crew.pass_(LEASE + 0.1, other)  # nothing of the first worker's moves meanwhile
    await crew.look(other)
    assert [worker for _, worker in crew.work.began] == ["1.1", "2.1"]
    second = crew.work.runs[1]
    assert second.token > first.token
    await second.check()
    with pytest.raises(JobError, match=r"job 'queued': its lease is gone, worker 1.1 was stopped"):
        await first.check()
    (running,) = stopped._running.values()
    assert not await running.lease.renew()
    # It ends after all, and spoils nothing.
    crew.work.go.set()
    await wait_until(lambda: not stopped._runs and not other._runs)
    record = await crew.record()
    assert (record.worker, record.token, record.result) == ("2.1", second.token, "ok")
    # One was lost and one has ended, whatever the stopped worker thinks.
    assert (stopped.counts["queued"], other.counts["queued"]) == ((0, 0), (2, 1))
    assert record.failures == 1  # the one that was lost


async def test_a_run_that_has_lost_its_lease_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew("long")
    holder, other = crew.worker("1.1"), crew.workers[1]
    holder._lease = 0.5  # so that its own timer renews within the test, on a busy machine too
    await crew.look(other)
    await crew.pass_(60.0, holder)
    before = crew.memory.revision
    await wait_until(lambda: crew.memory.revision >= before + 3)  # renewed, and ours still
    assert crew.work.cancelled == 0
    crew.clock.now += 1.0  # its expiry, on the store's clock
    await wait_until(lambda: crew.work.cancelled)
    await wait_until(lambda: not holder._runs)
    assert "Worker 1.1: job 'long' has lost its lease, cancelled" in caplog.text
    assert (await crew.record()).result == "lost"


async def test_one_that_does_not_heed_its_cancel_is_waited_for_and_not_joined_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Crew("deaf")
    holder = crew.worker("1.1")
    holder._lease = 0.5
    await crew.look(holder)
    await crew.pass_(60.0, holder)
    crew.clock.now += 1.0  # the lease's end, on the store's clock
    await wait_until(lambda: crew.work.cancelled)
    wait, waits = asyncio.wait, []

    async def counted(*given: Any, **options: Any) -> Any:
        waits.append(given)
        return await wait(*given, **options)

    monkeypatch.setattr(asyncio, "wait", counted)
    await crew.look(holder)
    record = await crew.record()
    assert record.again and record.result.startswith("lost")  # it would be begun anew at once
    with pytest.raises(JobError, match=r"job 'deaf': runs already, in worker 1.1"):
        await holder.run("deaf")
    await asyncio.sleep(0.6)  # past the lease's end on its own clock, too
    await crew.look(holder)
    assert crew.count == 1
    assert len(waits) < 5, "no turn of the loop is spent on it"
    crew.work.go.set()
    await wait_until(lambda: not holder._runs)
    await crew.look(holder)
    await wait_until(lambda: not holder._runs)
    assert crew.count == 2
    assert (await crew.record()).result == "ok"


@pytest.mark.parametrize("is_back", [True, False])
async def test_an_end_is_noted_once_the_store_is_back_if_that_is_within_the_lease(
    is_back: bool, caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew("queued")
    holder, other = crew.workers
    holder._lease = LEASE if is_back else 0.3
    await crew.look()
    await crew.pass_(60.0, holder)
    crew.memory.fails = SharedError("" if is_back else "the store is gone")
    said = "no answer" if is_back else "the store is gone"
    crew.work.go.set()
    await wait_until(lambda: f"its lease was not renewed: {said}" in caplog.text)
    if not is_back:
        await wait_until(lambda: not holder._runs)
    crew.memory.fails = None
    await wait_until(lambda: not holder._runs)
    assert ("the end of job 'queued' was not noted" in caplog.text) is not is_back
    crew.clock.now += 0.5  # so that the shorter lease is over
    await crew.look(other)
    assert crew.count == (1 if is_back else 2)
    assert (await crew.record()).failures == (not is_back)


@pytest.mark.parametrize(("name", "times"), [("long", 1), ("queued", 2)])
async def test_a_dead_worker_s_run_is_lost_and_begun_anew_or_not(
    name: str, times: int, caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew(name)
    dead, other = crew.workers
    await crew.look()
    await crew.pass_(60.0, dead)
    for task in dead._runs:
        task.cancel()  # as a killed process: nothing is noted, nothing released
    await crew.pass_(9.0, other)
    assert crew.count == 1
    await crew.pass_(2.0, other)
    await crew.look(other)
    assert crew.count == times
    if times == 1:
        assert (await crew.record()).result == "lost: worker 1.1 died or hung"
    assert (await crew.record()).failures == 1
    text = f"Worker 2.1: job '{name}': its run was lost, worker 1.1 died or hung"
    assert [one.message for one in caplog.records] == [text]
    assert caplog.records[0].__dict__["apihour_event"] == f"job {name}"
    assert (other.counts[name], dead.counts[name]) == ((1, 1), (0, 0))


async def test_a_drain_waits_for_what_runs_and_begins_nothing() -> None:
    crew = Crew("long")
    leaving, other = crew.workers
    await crew.look()
    await crew.pass_(60.0, leaving)
    draining = asyncio.ensure_future(leaving.drain())
    await turns()
    assert not draining.done()
    assert crew.work.cancelled == 0
    with pytest.raises(JobError, match=r"worker 1.1 retires"):
        await leaving.run("long")
    crew.work.go.set()
    await asyncio.wait_for(draining, 10)
    await leaving.close()
    assert (await crew.record()).result == "ok"
    await crew.pass_(60.0, other)
    assert crew.work.began[-1] == ("long", "2.1")


async def test_or_moves_it_to_another_worker_at_once() -> None:
    crew = Crew("moving")
    leaving, other = crew.workers
    await crew.look()
    await crew.pass_(60.0, leaving)
    await asyncio.wait_for(leaving.drain(), 10)
    assert crew.work.cancelled == 1
    assert (await crew.record()).result == "moved"
    await crew.look(other)
    assert [worker for _, worker in crew.work.began] == ["1.1", "2.1"]
    assert (await crew.record()).failures == 0


@pytest.mark.parametrize("call", ["take", "note"])
@pytest.mark.parametrize("ends", ["drain", "close"])
async def test_what_was_about_to_begin_as_the_worker_leaves_is_not_lost(
    call: str, ends: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Crew("moving")
    leaving, other = crew.workers
    await crew.look()
    crew.clock.now += 60.0
    put, go, asked = crew.memory.put, asyncio.Event(), asyncio.Event()

    async def slow(key: str, *given: Any, **options: Any) -> int:
        if key.endswith("/lease") is (call == "take"):
            asked.set()
            await go.wait()
        return await put(key, *given, **options)

    monkeypatch.setattr(crew.memory, "put", slow)
    leaving.begin(lambda: True)
    await asyncio.wait_for(asked.wait(), 10)
    leave = asyncio.ensure_future(getattr(leaving, ends)())
    await turns()
    go.set()
    await asyncio.wait_for(leave, 10)
    await leaving.close()
    record = await crew.record()
    assert record.result == ("moved" if ends == "drain" else "cut short"), "its end is told"
    assert not leaving._runs
    begun = crew.count
    await crew.look(other)
    assert crew.count - begun == (ends == "drain")


@pytest.mark.parametrize(("name", "again"), [("long", False), ("queued", True)])
async def test_what_is_left_at_the_end_of_a_drain_is_cut_short(name: str, again: bool) -> None:
    crew = Crew(name)
    leaving, other = crew.workers
    await crew.look()
    await crew.pass_(60.0, leaving)
    await leaving.close()
    assert crew.work.cancelled == 1
    record = await crew.record()
    assert (record.result, record.again) == ("cut short", again)
    await crew.look(other)
    assert crew.count == 1 + again


async def test_run_now_in_one_worker_also_of_a_paused_one() -> None:
    crew = Crew("long")
    first, second = crew.workers
    await crew.look()
    await first.pause("long")
    for _ in range(3):
        await crew.pass_(60.0)
    assert crew.count == 0
    (state,) = await second.states()
    assert state.state == "paused"
    state = await second.run("long")
    assert (state.state, state.worker) == ("running", "2.1")
    with pytest.raises(JobError, match=r"job 'long': runs already, in worker 2.1"):
        await first.run("long")
    crew.work.go.set()
    await wait_until(lambda: not second._runs)
    before = (await crew.record()).next
    await second.resume("long")
    assert (await crew.record()).next == before
    await crew.pass_(60.0)
    assert crew.count == 2
    with pytest.raises(JobError, match="job 'lung': there is none; expected long"):
        await first.run("lung")


async def test_two_operators_run_it_once() -> None:
    crew = Crew("long")
    found = await asyncio.gather(
        *(one.run("long") for one in crew.workers * 3), return_exceptions=True)
    assert sum(isinstance(one, JobError) for one in found) == 5
    await crew.look()
    assert crew.count == 1
    crew.work.go.set()


async def test_another_schedule_after_a_deploy_counts_anew() -> None:
    crew = Crew("tick")
    await crew.look()
    await crew.pass_(50.0)
    newer = crew.worker("3.2")
    spec = newer._specs["tick"]
    from dataclasses import replace

    from apihour.jobs.schedule import interval
    newer._specs = {"tick": replace(spec, schedule=interval("1h"))}
    await crew.look(newer)
    assert (await crew.record()).next == crew.clock.now + 3600.0
    assert (await crew.record()).schedule == "1h"


async def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    crew = Crew("tick")
    await crew.look()
    await crew.pass_(-7200.0)
    assert (await crew.record()).next == crew.clock.now + 60.0
    await crew.pass_(60.0)
    assert crew.count == 1


async def test_only_the_run_of_its_token_is_ended() -> None:
    record = JobRecord(began=10.0, token=5)
    assert record.over(4, 20.0, "ok", True) is record  # a later one is under way
    ended = record.over(5, 20.0, "ok", False)
    assert (ended.ended, ended.result) == (20.0, "ok")
    assert ended.over(5, 30.0, "lost", True) is ended  # it has been told already


async def test_a_worker_that_looked_before_another_ran_it_does_not_run_it_again() -> None:
    crew = Crew("tick")
    slow, quick = crew.workers
    await crew.look()
    crew.clock.now += 60.0
    spec = slow._specs["tick"]
    entry, record, held = await slow._read(spec)
    assert record.is_due(crew.clock.now) and not held
    await crew.look(quick)
    assert crew.count == 1 and not quick._runs
    assert not await slow._claim(spec, entry, record)
    await crew.look()
    assert crew.count == 1


@pytest.mark.parametrize("data", [
    b"", b"[]", b"3", b"null", b"not json", b"{}", b'{"next": "x"}', b'{"next": [1]}', b"\xff",
    b'{"of_a_later_release": 1}',
])
async def test_a_record_that_cannot_be_read_is_a_new_one(data: bytes) -> None:
    assert JobRecord.from_bytes(data) == JobRecord()


async def test_a_store_that_does_not_answer_is_said_once_and_gone_on_with(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew("tick")
    worker = crew.workers[0]
    await crew.look()
    crew.memory.fails = SharedError("the store is gone")
    for _ in range(3):
        await worker._look_safely()
    assert caplog.text.count("Worker 1.1: its jobs cannot be minded: SharedError: the store") == 1
    crew.memory.fails = None
    await crew.pass_(60.0)
    assert crew.count == 1


async def test_the_schedule_is_minded_until_the_worker_leaves() -> None:
    crew = Crew("tick")
    worker = crew.workers[0]
    may, asked = False, []

    def may_take() -> bool:
        asked.append(may)
        return may

    worker.begin(may_take)
    await wait_until(lambda: asked)
    await turns()
    assert await crew.memory.get(PREFIX + "tick") is None
    may = True
    await worker.look()
    crew.clock.now += 60.0
    worker._wake.set()
    await wait_until(lambda: crew.count)
    await worker.drain()
    await worker.close()
    assert worker._looking is not None
    await asyncio.wait({worker._looking}, timeout=10)
    assert worker._looking.done()


# Background work


async def test_background_work_is_waited_for_and_its_failure_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs, done = Crew().workers[0], []
    go = asyncio.Event()

    async def send(fails: bool) -> None:
        await go.wait()
        if fails:
            raise OSError("refused")
        done.append(True)

    jobs.start(send(False))
    task = jobs.start(send(True), name="mail")
    assert task.get_name() == "mail"
    draining = asyncio.ensure_future(jobs.drain())
    await turns()
    assert not draining.done()
    go.set()
    await asyncio.wait_for(draining, 10)
    assert done == [True]
    assert "Worker 1.1: background work 'mail' failed" in caplog.text
    assert "OSError: refused" in caplog.text


async def test_background_work_that_has_held_up_the_drain_to_its_end_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs = Crew().workers[0]
    jobs.start(asyncio.sleep(3600), name="watch")
    draining = asyncio.ensure_future(jobs.drain())
    await turns()
    draining.cancel()
    await asyncio.wait({draining}, timeout=10)
    assert draining.cancelled()
    assert "Worker 1.1: background work 'watch' goes on at the end of the drain" in caplog.text
    await asyncio.wait_for(jobs.close(), 10)


async def test_background_work_left_at_the_end_is_cancelled() -> None:
    jobs = Crew().workers[0]
    task = jobs.start(asyncio.sleep(3600))
    await asyncio.sleep(0)
    await asyncio.wait_for(jobs.close(), 10)
    assert task.cancelled()


async def test_background_work_that_is_no_coroutine_is_refused() -> None:
    async def send() -> None: ...

    wrong: Any = send
    with pytest.raises(TypeError, match=r"container.jobs.start\(.*expected a coroutine"):
        Crew().workers[0].start(wrong)
