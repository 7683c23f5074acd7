"""``container.jobs``: the jobs of the container on their schedule, and background work.

Rules:

- Every worker looks at the clock; of those that see a job due, the one runs it that gets the
  job's lease and then changes its record, both by compare-and-set in ``container.shared``.
- A worker that retires, or is of a generation that no longer serves, begins nothing. What runs
  has its worker's drain to end in.
- What fails is logged with its name and worker, and what fails in looking never ends the looking.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apihour.errors import JobError, RevisionError, SharedError
from apihour.jobs.declare import JobSpec
from apihour.jobs.job_record import CUT_SHORT, MOVED, JobRecord, is_failure, settle
from apihour.jobs.lease import Lease
from apihour.jobs.running import Running, event_of

if TYPE_CHECKING:
    from apihour.shared.backend import Entry, SharedBackend

__all__ = ["PREFIX", "JobState", "Jobs"]

PREFIX = "apihour.jobs/"
"""What the keys of jobs in ``container.shared`` begin with."""
_LOOK = 1.0  # seconds between two looks: what another worker's shell did is seen by then
_SOON = 0.05  # seconds until the next look where another worker was about to begin
_END_TIME = 5.0  # seconds that work has to end once it is cancelled
_TRIES = 20  # of a change of a record that others change, too


@dataclass(frozen=True)
class JobState:
    """What is known of one job in all workers; times in seconds since the epoch, 0: never.

    `state` is ``waiting``, ``running`` or ``paused``; `took` is in seconds, of the last run or of
    the one under way; `worker` the one that ran it, or runs it.
    """

    name: str
    schedule: str
    state: str
    next: float
    last: float
    took: float
    result: str
    worker: str
    runs: int
    failures: int


class Jobs:
    """The jobs and the background work of one worker's container."""

    def __init__(
        self, specs: Mapping[str, JobSpec], shared: Callable[[], SharedBackend], worker: str,
        log: logging.Logger, *, lease: float = 10.0, clock: Callable[[], float] = time.time,
    ) -> None:
        """`lease`: seconds after which the run of a worker that is gone is given up."""
        self._specs = specs
        self._shared = shared
        self._worker = worker
        self._log = log
        self._lease = lease
        self._clock = clock
        self._running: dict[str, Running] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._may_take: Callable[[], bool] = lambda: True
        self._looking: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._said = ""
        self.counts = {name: (0, 0) for name in specs}
        """Runs by job that ended in this worker, or that it saw were lost; how many failed."""

    # -- for the application ---------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[None]:
        """Have a coroutine done in this worker, beside everything else.

        What it raises is logged with `name`. A worker that retires waits for it,
        ``--graceful-timeout`` at most; then it is cancelled, before ``cleanup()``. Raises
        TypeError for what is no coroutine.
        """
        if not inspect.iscoroutine(work):
            raise TypeError(f"container.jobs.start({ascii(work)[:100]}): expected a coroutine, as "
                            "calling an async def makes it")
        name = name or getattr(work, "__qualname__", "work")
        task = asyncio.get_running_loop().create_task(self._watched(work, name), name=name)
        _add(self._work, task)
        return task

    async def _watched(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        try:
            await work
        except Exception:
            self._log.exception("Worker %s: background work %r failed", self._worker, name,
                                extra={"apihour_event": f"work {name}"})

    async def states(self) -> list[JobState]:
        """Every job, by name. Raises SharedError."""
        return [await self._state(spec) for _, spec in sorted(self._specs.items())]

    async def state(self, name: str) -> JobState:
        """One job. Raises JobError when there is none of that name, SharedError."""
        return await self._state(self._spec(name))

    async def run(self, name: str) -> JobState:
        """Begin a run now, in this worker, whatever the schedule says; also of a paused job.

        Raises JobError when it runs already, or there is none of that name; SharedError.
        """
        spec = self._spec(name)
        for _ in range(_TRIES):
            if self._is_leaving:
                raise JobError(
                    f"job {name!r}: worker {self._worker} retires; expected another's call")
            entry, record, held = await self._read(spec)
            if record.is_running or held or name in self._running:
                raise JobError(f"job {name!r}: runs already, in worker {record.worker}")
            if await self._claim(spec, entry, record):
                return await self._state(spec)
        raise JobError(f"job {name!r}: other workers changed it {_TRIES} times meanwhile")

    async def pause(self, name: str) -> JobState:
        """Begin no run of it any more, in no worker; what runs goes on. Errors as of run()."""
        return await self._set_paused(name, True)

    async def resume(self, name: str) -> JobState:
        """Go on with its schedule; what was missed is left out. Errors as of run()."""
        return await self._set_paused(name, False)

    # -- for the worker --------------------------------------------------------------------

    def begin(self, may_take: Callable[[], bool]) -> None:
        """The worker serves: mind the schedule while `may_take` says so."""
        self._may_take = may_take
        if self._specs:
            self._looking = asyncio.get_running_loop().create_task(self._mind(), name="jobs")

    def has(self, task: asyncio.Task[Any]) -> bool:
        """Whether that is work for which a worker that retires waits."""
        return task in self._work or task in self._runs

    async def drain(self) -> None:
        """Begin nothing more; wait for what runs, and move what is to be moved."""
        try:
            await self._end_looking()
            for one in list(self._running.values()):
                if one.spec.drain == "move":
                    one.cut(MOVED)
            while tasks := self._runs | self._work:
                await asyncio.wait(tasks)
        except asyncio.CancelledError:  # its time is over
            for task in self._work:
                self._log.warning(
                    "Worker %s: background work %r goes on at the end of the drain, which waited "
                    "for it: cancelled; what has no end is to be cancelled in shutdown()",
                    self._worker, task.get_name())
            raise

    async def close(self) -> None:
        """Cancel what is left, and give it 5 s to end."""
        await self._end_looking(_END_TIME)
        for one in self._running.values():
            one.cut(CUT_SHORT)
        for task in self._work:
            task.cancel()
        if tasks := self._runs | self._work:
            _, left = await asyncio.wait(tasks, timeout=_END_TIME)
            for task in left:
                self._log.error("Worker %s: %s has not ended %g s after it was cancelled",
                                self._worker, task.get_name(), _END_TIME)

    async def _end_looking(self, timeout: float | None = None) -> None:
        """Begin nothing more; what it was about to begin is one of the runs when this returns."""
        self._is_leaving = True
        self._wake.set()
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=timeout)
            self._looking.cancel()

    # -- the schedule ----------------------------------------------------------------------

    async def _mind(self) -> None:
        while not self._is_leaving:
            self._wake.clear()
            seconds = await self._look_safely() if self._may_take() else _LOOK
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look_safely(self) -> float:
        try:
            seconds = await self.look()
        except Exception as error:
            if (said := f"{type(error).__name__}: {error}") != self._said:
                self._said = said
                self._log.error("Worker %s: its jobs cannot be minded: %s", self._worker, said,
                                exc_info=None if isinstance(error, SharedError) else error)
            return _LOOK
        self._said = ""
        return seconds

    async def look(self) -> float:
        """Begin what is due; return the seconds until the next look. Raises SharedError."""
        soonest = _LOOK
        for spec in self._specs.values():
            if self._is_leaving:
                break
            soonest = min(soonest, await self._look_at(spec))
            await asyncio.sleep(0)  # the embedded store answers at once: thousands would be a block
        return soonest

    async def _look_at(self, spec: JobSpec) -> float:
        entry, record, held = await self._read(spec)
        now = self._clock()
        if record.is_due(now) and spec.name not in self._running:
            if held or not await self._claim(spec, entry, record):
                return _SOON
        elif entry is None or record != JobRecord.from_bytes(entry.value):
            try:
                await self._put(spec, record, entry)
            except RevisionError:
                return _SOON
        return max(0.0, record.next - now) if record.next > now else _LOOK

    async def _read(self, spec: JobSpec) -> tuple[Entry | None, JobRecord, bool]:
        """What the store has, what that means now, and whether a worker holds the lease."""
        entry = await self._shared().get(PREFIX + spec.name)
        record = JobRecord.from_bytes(entry.value if entry else None)
        held = await self._shared().get(f"{PREFIX}{spec.name}/lease") is not None
        return entry, settle(record, spec, self._clock(), held), held

    async def _put(self, spec: JobSpec, record: JobRecord, seen: Entry | None) -> None:
        await self._shared().put(
            PREFIX + spec.name, record.to_bytes(), seen.revision if seen else 0)
        before = JobRecord.from_bytes(seen.value if seen else None)
        if record.failures > before.failures:  # it was this look that saw it
            self._count(spec.name, True)
            self._log.error("Worker %s: job %r: its run was lost, worker %s died or hung",
                            self._worker, spec.name, before.worker, extra=event_of(spec.name))

    async def _claim(self, spec: JobSpec, seen: Entry | None, record: JobRecord) -> bool:
        """Run it here, unless another worker was first since `seen` was read."""
        lease = Lease(self._shared(), f"{PREFIX}{spec.name}/lease", self._lease, self._worker)
        if not await lease.take():
            return False
        begun = record.begun(spec, self._clock(), self._worker, lease.token)
        try:
            await self._put(spec, begun, seen)
        except BaseException as error:
            await lease.release()
            if isinstance(error, RevisionError):
                return False
            raise
        one = self._running[spec.name] = Running(
            spec, begun.due, self._worker, lease, self._log)
        _add(self._runs, asyncio.get_running_loop().create_task(
            self._run(one), name=f"job {spec.name}"))
        return True

    async def _run(self, one: Running) -> None:
        try:
            await self._end(one, await one.work())
            await one.lease.release()
        except Exception as error:  # others will say it was lost
            self._log.error("Worker %s: the end of job %r was not noted: %s: %s", self._worker,
                            one.spec.name, type(error).__name__, error)
        finally:
            if self._running.get(one.spec.name) is one:
                del self._running[one.spec.name]
            self._wake.set()

    async def _end(self, one: Running, result: str) -> None:
        """Note it; a store that is away for less than the lease has no end noted as a loss."""
        while True:
            try:
                return await self._note_end(one, result)
            except SharedError:
                if not await one.keep():
                    raise
            await asyncio.sleep(_SOON)

    async def _note_end(self, one: Running, result: str) -> None:
        is_noted = False

        def end(old: bytes | None) -> bytes:
            nonlocal is_noted
            before = JobRecord.from_bytes(old)
            after = before.over(one.lease.token, self._clock(), result, one.again)
            is_noted = after is not before  # of one that was given up another has told
            return after.to_bytes()

        await self._shared().update(PREFIX + one.spec.name, end)
        if is_noted:
            self._count(one.spec.name, is_failure(result))

    def _count(self, name: str, has_failed: bool) -> None:
        runs, failures = self.counts[name]
        self.counts[name] = runs + 1, failures + has_failed

    # -- records ---------------------------------------------------------------------------

    def _spec(self, name: str) -> JobSpec:
        try:
            return self._specs[name]
        except KeyError:
            raise JobError(f"job {name!r:.80}: there is none; expected "
                           f"{', '.join(sorted(self._specs)) or 'a container that has jobs'}"
                           ) from None

    async def _set_paused(self, name: str, paused: bool) -> JobState:
        spec = self._spec(name)
        for _ in range(_TRIES):
            entry, record, _held = await self._read(spec)
            try:
                await self._put(spec, replace(record, paused=paused, again=False), entry)
            except RevisionError:
                continue
            self._wake.set()
            return await self._state(spec)
        raise JobError(f"job {name!r}: other workers changed it {_TRIES} times meanwhile")

    async def _state(self, spec: JobSpec) -> JobState:
        _, record, _ = await self._read(spec)
        state = "running" if record.is_running else "paused" if record.paused else "waiting"
        end = self._clock() if record.is_running else record.ended
        return JobState(
            spec.name, spec.schedule.text, state, record.next, record.began,
            max(0.0, end - record.began), record.result, record.worker, record.runs,
            record.failures)


def _add(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    tasks.add(task)
    task.add_done_callback(tasks.discard)
