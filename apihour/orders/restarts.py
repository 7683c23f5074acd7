"""Restarts on request, and telling whoever ended a worker what serves in its place.

Rules:

- A restart is ready-gated like every replacement: the new worker serves before the old one
  retires. When the new one does not come up, the old one serves on, and why is answered.
- The old one drains to its deadline, then it is killed. One whose loop has not turned since
  the restart was asked for cannot drain: its stack is logged and it is killed as soon as
  another serves.
- Two operators who restart one worker get one restart, and both its outcome.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.part import ArbiterPart
from apihour.books.worker_record import WorkerRecord
from apihour.ipc.stack_dump import dump_stack, where
from apihour.orders.requesters import ControlRequest

__all__ = ["Restarts"]

_BLOCKED = 2.0  # seconds without a heartbeat after which a worker is not waited for
_MARGIN = 10.0  # seconds on top of all deadlines until whoever waits is told of it


@dataclass
class _Wait:
    """Workers that are to be replaced, or were ended, and who wants to know by what.

    `rows` are the answer's; `until` is when the waiting ends. Of a restart `deadline` is the
    end of the old worker's drain, once it began, `within` its length in seconds.
    """

    old: list[WorkerRecord]
    rows: list[dict[str, Any]]
    requests: list[ControlRequest]
    began: float
    until: float
    is_restart: bool = False
    within: float = 0.0
    fresh: WorkerRecord | None = None
    deadline: float = 0.0
    outcome: str = "drained"


class Restarts(ArbiterPart):
    """What the arbiter owes an answer about, advanced in every turn."""

    def __init__(
        self, books: Books, replace: Callable[[WorkerRecord, str], WorkerRecord | None],
        retirer: Children,
    ) -> None:
        """`replace` replaces a worker for a reason; it returns the new one, if there is one."""
        self.books = books
        self._replace = replace
        self._retirer = retirer
        self._waiting: list[_Wait] = []

    def begin(self, worker: WorkerRecord, within: float | None, request: ControlRequest) -> None:
        """Replace a worker; it may drain for `within` seconds (None: its graceful timeout)."""
        for one in self._waiting:
            if one.is_restart and worker in one.old:
                one.requests.append(request)
                return
        books = self.books
        if books.reload is not None:
            request.fail(f"restart {worker.name}: a reload is under way, which replaces every "
                         "worker; expected none")
            return
        fresh = self._replace(worker, f"restart asked for by {request.role}")
        if fresh is None:
            request.fail(f"restart {worker.name}: no new process can be started now; "
                         "the log says why")
            return
        within = float(worker.cfg.graceful_timeout) if within is None else within
        now = time.monotonic()
        self._waiting.append(_Wait(
            [worker], [{"worker": worker.name, "pid": worker.pid}], [request], now,
            now + worker.cfg.boot_timeout + within + _MARGIN, True, within, fresh))

    def tell(
        self, workers: list[WorkerRecord], rows: list[dict[str, Any]], request: ControlRequest
    ) -> None:
        """Answer `rows`, one for each of the workers that were ended, once others serve."""
        now = time.monotonic()
        patience = max(one.cfg.boot_timeout for one in workers) + _MARGIN
        self._waiting.append(_Wait(workers, rows, [request], now, now + patience))

    def advance(self) -> None:
        """Go on with everything that waits."""
        for one in list(self._waiting):
            if self._is_over(one):
                self._waiting.remove(one)

    def _is_over(self, one: _Wait) -> bool:
        living = self.books.live_workers()
        if one.is_restart:
            self._end_old(one, one.old[0])
            if self._has_failed(one, living):
                return True
        done = all(self._is_replaced(one, worker) for worker in one.old)
        if not done and time.monotonic() < one.until:
            return False
        rows = [self._row(one, row, worker)
                for row, worker in zip(one.rows, one.old, strict=True)]
        for request in one.requests:
            if done:
                request.answer(rows)
            else:
                names = ", ".join(worker.name for worker in one.old)
                request.fail(f"{request.command} {names}: nothing serves in its place after "
                             f"{time.monotonic() - one.began:.0f} s; the log says why")
        return True

    def _has_failed(self, one: _Wait, living: list[WorkerRecord]) -> bool:
        """Whether the replacement is gone while the old worker is still there; says so then."""
        old, fresh = one.old[0], one.fresh
        if fresh is None or fresh in living or old not in living or fresh.ready:
            return False
        why = fresh.failure[0] if fresh.failure else "it ended"
        for request in one.requests:
            request.fail(f"restart {old.name}: its replacement (pid {fresh.pid}) could not start: "
                         f"{why}; pid {old.pid} serves on", "failed",
                         fresh.failure[1] if fresh.failure else "")
        return True

    def _end_old(self, one: _Wait, old: WorkerRecord) -> None:
        """Once it retires: its own deadline, or its end at once when it cannot drain."""
        if one.outcome == "killed" or old.pid not in self.books.retiring:
            return
        now = time.monotonic()
        if not one.deadline:
            one.deadline = old.kill_at = now + one.within
        if old.row.heartbeat >= one.began or now - old.row.heartbeat < _BLOCKED:
            return
        one.outcome = "killed"
        stack = dump_stack(self.books.runtime, old.pid)
        self.books.log.warning(
            "Worker %s (pid: %s) is blocked for %.1f s%s and cannot drain, killing it:\n%s",
            old.name, old.pid, now - old.row.heartbeat, where(stack), stack)
        self._retirer.send(old, signal.SIGKILL)

    def _is_replaced(self, one: _Wait, old: WorkerRecord) -> bool:
        books = self.books
        if old in books.live_workers() or (one.is_restart and old.pid in books.retiring):
            return False
        return self._successor(old) is not None or not self._is_wanted(old)

    def _is_wanted(self, old: WorkerRecord) -> bool:
        return old.slot <= self.books.num_workers and not self.books.stopping

    def _successor(self, old: WorkerRecord) -> WorkerRecord | None:
        return next((worker for worker in self.books.live_workers()
                     if worker.slot == old.slot and worker is not old and worker.ready), None)

    def _row(self, one: _Wait, row: dict[str, Any], old: WorkerRecord) -> dict[str, Any]:
        found = self._successor(old)
        row = {**row, "replaced_by": found.name if found else "none is wanted",
               "new_pid": found.pid if found else None}
        if one.is_restart:
            late = one.deadline and time.monotonic() >= one.deadline
            row["outcome"] = "killed" if late else one.outcome
            row["seconds"] = round(time.monotonic() - one.began, 1)
        return row
