"""A method of ``single`` over many machines: the lease that its worker holds beside the lock.

Rules:

- It is a lease as of a job, in ``container.shared``: it expires unless it is renewed, and its token
  is greater with each holder.
- By the holder's own clock it ends before the store's. Whoever could not renew it stops then.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from apihour.errors import SharedError
from apihour.jobs.container_jobs import check_jobs, holder, is_of_many
from apihour.jobs.lease import Lease, LeaseGoneError
from apihour.jobs.running import JobRun

__all__ = ["SingleLease", "lease_of"]

_RENEWALS = 3  # within its time
_LOOK = 0.5  # seconds between two tries to get it, at most


def lease_of(container: Any, name: str, worker: str, log: logging.Logger) -> SingleLease | None:
    """What method `name` needs beside its lock; None for one of one daemon that asks for no token.
    """
    takes_run = bool(inspect.signature(getattr(container, name)).parameters)
    if not takes_run and not is_of_many(container):
        return None
    return SingleLease(container, name, holder(container, worker), takes_run, log)


class SingleLease:
    """The lease of one method, for one worker."""

    def __init__(
        self, container: Any, name: str, worker: str, takes_run: bool, log: logging.Logger
    ) -> None:
        self.name = name
        self._container = container
        self._worker = worker
        self._takes_run = takes_run
        self._log = log
        self._seconds = check_jobs(container)
        self._lease: Lease | None = None
        self._said = ""

    async def take(self) -> bool:
        """Whether it is ours now; waits a while when it is not."""
        lease = Lease(self._container.shared, f"apihour.single/{self.name}", self._seconds,
                      self._worker)
        try:
            if await lease.take():
                self._lease, self._said = lease, ""
                return True
        except SharedError as error:
            if str(error) != self._said:
                self._said = str(error)
                self._log.error("Worker %s: no lease for %r: %s", self._worker, self.name, error)
        await asyncio.sleep(min(_LOOK, self._seconds / _RENEWALS))
        return False

    def begin(self, method: Callable[..., Awaitable[Any]]) -> Awaitable[Any]:
        """Call the method, with its run where it takes one."""
        assert self._lease is not None
        run = JobRun(self.name, time.time(), self._worker, self._lease)
        return method(run) if self._takes_run else method()

    async def keep(self) -> None:
        """Renew it. Raises JobError once it is lost, or may be."""
        lease = self._lease
        assert lease is not None
        ends = lease.taken + lease.seconds
        while True:
            await asyncio.sleep(max(0.0, min(lease.seconds / _RENEWALS, ends - time.monotonic())))
            began = time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, ends - began)):
                    kept = await lease.renew()
                ends = began + lease.seconds
            except (SharedError, TimeoutError):
                kept = time.monotonic() < ends
            if not kept:
                raise LeaseGoneError(
                    f"{self.name!r}: its lease is gone, worker {self._worker} was stopped, or the "
                    f"store was away, for over {lease.seconds:g} s")

    async def release(self) -> None:
        """Leave it to another."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                await lease.release()
            except SharedError as error:
                self._log.warning("Worker %s: the lease of %r was not given back, it expires: %s",
                                  self._worker, self.name, error)
