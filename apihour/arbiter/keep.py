"""Keeping the workers up: their number, their health, their replacement.

Rules:

- Every replacement is ready-gated: the new worker serves before the old one retires. Only a
  worker that died or had to be killed is replaced after the fact.
- A slot whose workers keep failing is tried again later and later; the others go on.
- A worker is killed only after its stack was logged, or it was said why there is none.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from dataclasses import dataclass

from apihour.blame import blame_frames
from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.part import ArbiterPart
from apihour.books.worker_record import WorkerRecord
from apihour.errors import ApihourError
from apihour.ipc import faults
from apihour.ipc.processes import stat_of
from apihour.ipc.scoreboard import Figure, WorkerState

__all__ = ["WorkerKeeper"]

_BACKOFF = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds, by failures in a row of one slot
_HEALTHY = 5.0  # seconds of life after which a death counts as the first again
_LOOK_EVERY = 1.0  # seconds between two looks at memory, age and requests
_ABORT_TIME = 1.0  # seconds between SIGABRT and SIGKILL, as gunicorn does it
_OWN_WORDS = 2.0  # seconds past the boot timeout in which a worker that turns tells why itself
_SILENT = 1.0  # seconds without a heartbeat after which it will not
_UNDO_TIME = 5.0  # seconds a worker that could not start has for its cleanup
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class _Slot:
    failures: int = 0
    not_before: float = 0.0


class WorkerKeeper(ArbiterPart):
    """What the arbiter does about its workers in every turn."""

    def __init__(self, books: Books, crew: Children) -> None:
        self.books = books
        self._crew = crew
        self._slots: dict[int, _Slot] = {}
        self._next_look = 0.0
        self._replacing: dict[int, tuple[WorkerRecord, str]] = {}

    # -- number ----------------------------------------------------------------------------

    def advance(self) -> None:
        """Spawn what is missing, retire what is too many, replace what is worn.

        During a reload only the dead are replaced, until the first old worker retires.
        """
        books = self.books
        reload = books.reload
        if reload is not None and reload.has_replaced:
            return
        if reload is None:
            self._look()
        now = time.monotonic()
        own = [w for w in books.live_workers() if w.generation == books.generation]
        taken = {worker.slot for worker in own}
        for slot in range(1, books.num_workers + 1):
            if slot not in taken and now >= self._slot(slot).not_before:
                self._spawn(slot)
        if reload is not None:
            return
        for worker in own:
            if worker.slot > books.num_workers:
                self._crew.retire(worker)
        self._finish_replacements()

    def _spawn(self, slot: int) -> WorkerRecord | None:
        """Fork into a slot; out of processes or descriptors, try again later."""
        books = self.books
        try:
            return self._crew.spawn(slot, books.generation, books.listeners, books.cfg)
        except (OSError, ApihourError) as error:
            state = self._slot(slot)
            state.failures += 1
            delay = _BACKOFF[min(state.failures, len(_BACKOFF) - 1)]
            state.not_before = time.monotonic() + delay
            books.log.error("Worker slot %d: no new process: %s; next try in %.1f s",
                              slot, getattr(error, "strerror", None) or error, delay)
            return None

    def is_busy(self) -> bool:
        """Whether some slot waits for its next try, or a replacement is under way."""
        now = time.monotonic()
        return bool(self._replacing) or any(s.not_before > now for s in self._slots.values())

    def _slot(self, number: int) -> _Slot:
        return self._slots.setdefault(number, _Slot())

    def on_lost(self, worker: WorkerRecord) -> float:
        """A worker ended by itself; returns seconds until its slot is filled again."""
        slot = self._slot(worker.slot)
        now = time.monotonic()
        healthy = worker.ready and now - worker.spawned > _HEALTHY
        slot.failures = 1 if healthy else slot.failures + 1
        # The first death of a worker that served is replaced at once.
        step = slot.failures - 1 if worker.ready else slot.failures
        delay = _BACKOFF[min(step, len(_BACKOFF) - 1)]
        slot.not_before = now + delay
        return delay

    def on_ready(self, worker: WorkerRecord) -> None:
        """A worker serves: for so many requests, its own jitter included, or for ever (0)."""
        cfg = worker.cfg
        if cfg.max_requests:
            worker.due = int(cfg.max_requests) + random.randint(0, cfg.max_requests_jitter)

    def on_new_generation(self) -> None:
        """A reload is through: what failed before may work now."""
        self._slots.clear()
        self._replacing.clear()

    # -- wear ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Once a second: the wear of each worker."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        for worker in self.books.live_workers():
            if self._replacing:
                break  # one at a time: all at once would double memory and import load
            if worker.ready and (reason := self._worn(worker, now)):
                self._replace(worker, reason)

    def _worn(self, worker: WorkerRecord, now: float) -> str:
        cfg = worker.cfg
        if worker.due and worker.row.requests >= worker.due:
            return f"it has served {worker.row.requests:g} requests (--max-requests)"
        if cfg.max_age and now - worker.spawned > cfg.max_age:
            return f"it is {now - worker.spawned:.0f} s old (--max-age)"
        if cfg.max_rss and (rss := resident_bytes(worker.pid)) > cfg.max_rss:
            return f"it holds {rss / 2**20:.0f} MiB (--max-rss {cfg.max_rss / 2**20:.0f} MiB)"
        return ""

    def replace(self, worker: WorkerRecord, reason: str) -> WorkerRecord | None:
        """Replace a worker because an operator wants it; returns the new one, if there is one.

        A slot that is left alone for a while after failures is tried now.
        """
        under_way = self._replacing.get(worker.slot)
        if under_way is None:
            self._slot(worker.slot).not_before = 0.0
            self._replace(worker, reason)
            under_way = self._replacing.get(worker.slot)
        return under_way[0] if under_way is not None else None

    def _replace(self, worker: WorkerRecord, reason: str) -> None:
        """Start a second worker in the slot; the first retires when that one is ready."""
        books = self.books
        if time.monotonic() < self._slot(worker.slot).not_before:
            return  # the last replacement failed; this one serves on meanwhile
        books.log.info("Replacing worker %s (pid: %s): %s", worker.name, worker.pid, reason)
        fresh = self._spawn(worker.slot)
        if fresh is not None:
            self._replacing[worker.slot] = (fresh, reason)

    def _finish_replacements(self) -> None:
        for slot, (fresh, _) in list(self._replacing.items()):
            living = self.books.live_workers()
            if fresh not in living:
                del self._replacing[slot]
            elif fresh.ready:
                del self._replacing[slot]
                for worker in living:
                    if worker.slot == slot and worker is not fresh:
                        self._crew.retire(worker)

    # -- deadlines -------------------------------------------------------------------------

    def until_deadline(self) -> float:
        """Seconds until a worker that beats no more is past the next step against it.

        Steps are the stack at half of ``--timeout``, the abort at its end, the kill after that.
        """
        now = time.monotonic()
        return min((_next_step(worker) - now for worker in self.books.live_workers()
                    if worker.ready and worker.row.state != WorkerState.EXITING), default=math.inf)

    def enforce(self) -> None:
        """Boot timeout, heartbeat timeout, drain deadline."""
        now = time.monotonic()
        for worker in self.books.live_workers():
            if worker.ready:
                self._check_heartbeat(worker, now)
            elif worker.failure is not None:
                self._end_undo(worker, now)
            elif (late := now - worker.spawned - worker.cfg.boot_timeout) > 0 and (
                late > _OWN_WORDS or now - worker.row.heartbeat > _SILENT
            ):
                self._end_boot(worker)
        for worker in self.books.retiring.values():
            if worker.ready:
                self._check_heartbeat(worker, now)
        self._crew.kill_retiring()

    def _end_boot(self, worker: WorkerRecord) -> None:
        stack = faults.dump_stack(self.books.runtime, worker.pid)
        what = f"{worker.under_way} was not done" if worker.under_way else (
            f"worker {worker.name} was not ready")
        message = f"{what} within {worker.cfg.boot_timeout:g} s (--boot-timeout)"
        self.books.log.error("Worker %s (pid: %s): %s, killing it:\n%s", worker.name,
                               worker.pid, message, stack)
        place = blame_frames(faults.dump_frames(stack))
        worker.failure = f"{message}: {place}" if place else message, stack
        os.kill(worker.pid, signal.SIGKILL)

    def _end_undo(self, worker: WorkerRecord, now: float) -> None:
        """One that said why it will not serve must not hang in its cleanup."""
        if not worker.kill_at:
            worker.kill_at = now + _UNDO_TIME
        elif now >= worker.kill_at:
            worker.kill_at = now + _UNDO_TIME
            self.books.log.error(
                "Worker %s (pid: %s) has not cleaned up %g s after its failed start, killing it:"
                "\n%s", worker.name, worker.pid, _UNDO_TIME,
                faults.dump_stack(self.books.runtime, worker.pid))
            os.kill(worker.pid, signal.SIGKILL)

    def _check_heartbeat(self, worker: WorkerRecord, now: float) -> None:
        timeout = worker.cfg.timeout
        silent = now - worker.row.heartbeat
        if worker.aborted_at:
            # Told to go, it goes: an endpoint that caught the abort must not keep it.
            if now - worker.aborted_at > _ABORT_TIME:
                os.kill(worker.pid, signal.SIGKILL)
            return
        if not timeout or worker.row.state == WorkerState.EXITING:
            return
        if silent <= timeout / 2:
            worker.stack_logged = False
            return
        log = self.books.log
        if not worker.stack_logged:
            worker.stack_logged = True
            worker.row.blocks += 1
            stack = faults.dump_stack(self.books.runtime, worker.pid)
            log.warning("Worker %s (pid: %s) is blocked for %.1f s%s:\n%s", worker.name, worker.pid,
                        silent, faults.where(stack), stack)
        if silent <= timeout:
            return
        worker.aborted_at = now
        log.critical("WORKER TIMEOUT: %s (pid: %s) is blocked for %.1f s (--timeout %g)",
                     worker.name, worker.pid, silent, timeout)
        self.books.scoreboard.count_figure(Figure.TIMEOUTS)
        os.kill(worker.pid, signal.SIGABRT)


def _next_step(worker: WorkerRecord) -> float:
    """When the next step against this worker is due, unless its heart beats; in monotonic time."""
    if worker.aborted_at:
        return worker.aborted_at + _ABORT_TIME
    timeout = worker.cfg.timeout or math.inf
    return float(worker.row.heartbeat) + (timeout if worker.stack_logged else timeout / 2)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    return sum(map(int, stat_of(pid)[21:22])) * _PAGE
