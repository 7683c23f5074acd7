"""How a process that starts leaves the CPU to those that serve.

Rules:

- A start that only replaces gets a higher nice value, one that adds what is missing never:
  the first workers and the one after a crash start at full speed.
- Nothing is done that cannot be undone: without CAP_SYS_NICE, or an RLIMIT_NICE that allows
  it, a worker stays as it is. Only a process that never comes to serve is niced for good.
- It ends when the worker is ready, at the latest after a part of ``--boot-timeout``: on a
  machine that has no CPU to spare a start takes longer, but it gets there.
- Linux keeps it per thread, and threads inherit it: all of a process's are set back.
- An operator who has chosen a scheduling policy for the daemon has decided; nothing is done.

Longer time slices (``sched_runtime`` of sched_setattr(2), Linux 6.12 on) would need no
privilege and cost no share, but the group of a process takes them over, of a cgroup too, and
then all of it waits longer for others.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FOR_GOOD", "NICE", "Priority", "can_undo", "yield_for_good"]

NICE = 10  # at 5, who wakes up beside an import still waits 4 ms once in a thousand times
FOR_GOOD = 5  # a quarter of a CPU, as there is no end to it
_LOWEST = 19
_PART = 0.125  # of the boot timeout: it is a tenth of a CPU that another one wants whole
_CAP_SYS_NICE = 23


@dataclass(frozen=True)
class _Lowered:
    base: int
    nice: int
    until: float


class Priority:
    """The processes that the arbiter has lowered, by pid. It sets them from outside."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lowered: dict[int, _Lowered] = {}

    def lower(self, pid: int, uid: int, boot_timeout: float) -> None:
        """Lower a child just forked, which is to become `uid`; `boot_timeout` in seconds."""
        if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return
        if not can_undo() or (uid != os.geteuid() and not _has_cap_sys_nice()):
            return
        base = os.getpriority(os.PRIO_PROCESS, 0)
        nice = min(base + NICE, _LOWEST)
        self._lowered[pid] = _Lowered(base, nice, time.monotonic() + _PART * boot_timeout)
        self._all_threads(pid, lambda tid: os.setpriority(os.PRIO_PROCESS, tid, nice))

    def restore(self, pid: int) -> None:
        """Set every thread of a process back, if it was lowered."""
        lowered = self._lowered.pop(pid, None)
        if lowered is None:
            return

        def back(tid: int) -> None:
            now = os.getpriority(os.PRIO_PROCESS, tid)
            if now >= lowered.nice:  # what os.nice() has added stays; else its own choice
                os.setpriority(os.PRIO_PROCESS, tid, lowered.base + now - lowered.nice)

        self._all_threads(pid, back)

    def expire(self) -> None:
        """Set back those that have been starting for too long."""
        now = time.monotonic()
        for pid in [pid for pid, one in self._lowered.items() if now >= one.until]:
            self.restore(pid)

    def forget(self, pid: int) -> None:
        """The process has ended."""
        self._lowered.pop(pid, None)

    def _all_threads(self, pid: int, do: Callable[[int], None]) -> None:
        seen: set[int] = set()
        while fresh := _threads(pid) - seen:  # one not yet set may have started another
            for tid in fresh:
                try:
                    do(tid)
                except ProcessLookupError:
                    continue
                except OSError as error:
                    self._log.warning("Process %d: its CPU priority stays as it is: %s", pid,
                                      error.strerror)
                    return
            seen |= fresh


def yield_for_good() -> None:
    """Lower the calling process, which never comes to serve; needs no privilege."""
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        parent = os.getpriority(os.PRIO_PROCESS, os.getppid())
        nice = min(parent + FOR_GOOD, _LOWEST)
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


def _threads(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    except FileNotFoundError:
        return set()


def can_undo() -> bool:
    """Whether a nice value can be taken back here, tried by a thread that then ends."""
    outcome: list[bool] = []

    def attempt() -> None:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, before + 1)
            os.setpriority(os.PRIO_PROCESS, 0, before)
        except PermissionError:
            outcome.append(False)
        else:
            outcome.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return outcome == [True]


def _has_cap_sys_nice() -> bool:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            effective = next(line for line in file if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return False
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_NICE & 1)
