"""One run of a job in this worker: its task, its lease, and how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any

from apihour.errors import SharedError, one_line
from apihour.excerpt import LINE, excerpt
from apihour.jobs.declare import JobSpec
from apihour.jobs.job_record import CUT_SHORT, LOST, MOVED, OK
from apihour.jobs.lease import Lease, LeaseGoneError
from apihour.masking import error_text, mask_text

__all__ = ["JobRun", "Running", "event_of"]

_RENEWALS = 3  # of a lease within its time


def event_of(job: str) -> dict[str, str]:
    """What makes a log record of `job` one of ``events`` in the shell, too."""
    return {"apihour_event": f"job {job}"}


class JobRun:
    """This run, for a job's method that takes it: ``async def report(self, run)``.

    `due` is the time it was due, in seconds since the epoch. `token` is greater with each run: a
    place that keeps the greatest it has seen, and refuses a lesser one, is safe from a run whose
    worker was stopped, and which goes on beside the next one.
    """

    def __init__(self, name: str, due: float, worker: str, lease: Lease) -> None:
        self.name = name
        self.due = due
        self.worker = worker
        self.token = lease.token
        self._lease = lease

    async def check(self) -> None:
        """Raise JobError when this run has lost its lease: another may be under way by now."""
        if not await self._lease.renew():
            raise LeaseGoneError(f"job {self.name!r}: its lease is gone, worker {self.worker} was "
                           f"stopped or blocked for over {self._lease.seconds:g} s")


class Running:
    """A run under way. :meth:`work` is its task; `reason` says why it was cancelled."""

    def __init__(
        self, spec: JobSpec, due: float, worker: str, lease: Lease, log: logging.Logger
    ) -> None:
        self.spec = spec
        self.lease = lease
        self.reason = ""
        self._worker = worker
        self._log = log
        self._run = JobRun(spec.name, due, worker, lease)
        self._task: asyncio.Future[Any] | None = None
        self._ends = lease.taken + lease.seconds
        self._said = False

    @property
    def again(self) -> bool:
        """Whether another worker shall begin it anew."""
        return self.reason == MOVED or (
            self.reason in (CUT_SHORT, LOST) and self.spec.misfire == "once")

    def cut(self, reason: str) -> None:
        """Cancel it."""
        self.reason = self.reason or reason
        if self._task is not None:
            self._task.cancel()

    async def work(self) -> str:
        """Run to the end and keep the lease meanwhile; return the result in words."""
        call: Awaitable[Any] = self.spec.function(*((self._run,) if self.spec.takes_run else ()))
        self._task = task = asyncio.ensure_future(call)
        if isinstance(task, asyncio.Task):
            task.set_name(f"job {self.spec.name}")
        if self.reason:
            task.cancel()
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=max(0.0, min(
                    self.lease.seconds / _RENEWALS, self._ends - time.monotonic())))
                if not (task.done() or await self.keep()):
                    self._log.error(
                        "Worker %s: job %r has lost its lease, cancelled: the worker was stopped, "
                        "blocked or cut off from the store for over %g s", self._worker,
                        self.spec.name, self.lease.seconds, extra=event_of(self.spec.name))
                    self.reason = LOST
                    task.cancel()
                    await asyncio.wait({task})  # as long as it takes: nothing is renewed any more
        finally:
            task.cancel()
        return self._result(task)

    def _result(self, task: asyncio.Future[Any]) -> str:
        if task.cancelled():
            if not self.reason:
                self._log.error("Worker %s: job %r was cancelled, by itself or by what it waited "
                                "for", self._worker, self.spec.name, extra=event_of(self.spec.name))
            return self.reason or "cancelled"
        error = task.exception()
        if error is None:
            self.reason = ""  # whatever it was cut for, it has come to its end
            return OK
        self._log.error("Worker %s: job %r failed", self._worker, self.spec.name, exc_info=error,
                        extra=event_of(self.spec.name))
        return one_line(mask_text(excerpt(f"failed: {error_text(error)}", LINE)))

    async def keep(self) -> bool:
        """Renew the lease; whether it is ours. A store that does not answer has until its end.

        By our clock it ends sooner than by the store's, which has begun to count later.
        """
        began = time.monotonic()
        if began >= self._ends:
            return False  # to ask first would be to go on meanwhile
        try:
            async with asyncio.timeout(self._ends - began):
                kept = await self.lease.renew()
        except (SharedError, TimeoutError) as error:
            if not self._said:
                self._said = True
                self._log.error("Worker %s: job %r: its lease was not renewed: %s", self._worker,
                                self.spec.name, str(error) or "no answer")
            return time.monotonic() < self._ends
        self._ends = began + self.lease.seconds
        return kept
