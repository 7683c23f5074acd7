"""How a process that starts leaves the CPU to those that serve.

Rules:

- A start that only replaces is lowered, one that adds what is missing never: the first
  workers and the one after a crash start at full speed.
- Lowered is two things. Longer slices (``sched_runtime`` of sched_setattr(2), Linux 6.12 on)
  let those who wake up run at once and cost no share of the CPU; a moderately higher nice
  value does so on older kernels too, and gives way to those who need more than their share.
- Nothing is done that cannot be undone: without CAP_SYS_NICE, or an RLIMIT_NICE that allows
  it, a worker's nice value stays. Only a process that never comes to serve is niced for good.
- It ends when the worker is ready, at the latest after a part of ``--boot-timeout``: on a
  machine that has no CPU to spare a start takes longer, but it gets there.
- Linux keeps both per thread, and threads inherit them: all of a process's are set back.
- An operator who has chosen a scheduling policy for the daemon has decided; nothing is done.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["NICE", "Priority", "yield_for_good"]

NICE = 5  # a quarter of a CPU that another one wants whole; 10 would be a tenth
_LOWEST = 19
_SLICE = 100_000_000  # ns, the most there is; the usual 3 ms are the latency of who must wait
_PART = 0.25  # of the boot timeout
_CAP_SYS_NICE = 23
# Numbers of the system call, which glibc has no function for before 2.41.
_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_ATTR = struct.Struct("=IIQiIQQQ")  # struct sched_attr, SCHED_ATTR_SIZE_VER0


@dataclass(frozen=True)
class _Lowered:
    nice: int
    until: float


class Priority:
    """The processes that the arbiter has lowered, by pid. It sets them from outside."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lowered: dict[int, _Lowered] = {}
        self._set: Callable[[int, int, int], None] | None = None

    def lower(self, pid: int, uid: int, boot_timeout: float) -> None:
        """Lower a child just forked, which is to become `uid`; `boot_timeout` in seconds."""
        if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return
        privileged = _has_cap_sys_nice()
        if uid != os.geteuid() and not privileged:
            return  # once it is another user's, nothing could be set back
        base = os.getpriority(os.PRIO_PROCESS, 0)
        nice = min(base + NICE, _LOWEST) if _can_undo() else base
        self._lowered[pid] = _Lowered(nice, time.monotonic() + _PART * boot_timeout)
        self._all_threads(pid, lambda tid: self._apply(tid, nice, _SLICE))

    def restore(self, pid: int) -> None:
        """Set every thread of a process back, if it was lowered."""
        lowered = self._lowered.pop(pid, None)
        if lowered is None:
            return
        base = os.getpriority(os.PRIO_PROCESS, 0)

        def back(tid: int) -> None:
            if os.sched_getscheduler(tid) != os.SCHED_OTHER:
                return  # the application's own choice
            nice = os.getpriority(os.PRIO_PROCESS, tid)
            self._apply(tid, base if nice == lowered.nice else nice, 0)

        self._all_threads(pid, back)

    def expire(self) -> None:
        """Set back those that have been starting for too long."""
        now = time.monotonic()
        for pid in [pid for pid, one in self._lowered.items() if now >= one.until]:
            self.restore(pid)

    def forget(self, pid: int) -> None:
        """The process has ended."""
        self._lowered.pop(pid, None)

    def _apply(self, tid: int, nice: int, slice: int) -> None:
        if self._set is None:
            self._set = _setter()
        self._set(tid, nice, slice)

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
        nice = min(parent + NICE, _LOWEST)
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


def _threads(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    except FileNotFoundError:
        return set()


def _can_undo() -> bool:
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


def _setter() -> Callable[[int, int, int], None]:
    """A function that sets nice value and slice (ns, 0: the usual one) of one thread.

    It raises OSError. Where the system call is not to be had it sets the nice value only.
    """
    number = _SETATTR.get(platform.machine()) if struct.calcsize("P") == 8 else None

    def plain(tid: int, nice: int, slice: int) -> None:
        if os.getpriority(os.PRIO_PROCESS, tid) != nice:
            os.setpriority(os.PRIO_PROCESS, tid, nice)

    if number is None:
        return plain
    import ctypes  # 2 ms and 1 MB that a daemon pays at its first reload, not at its start

    library = ctypes.CDLL(None, use_errno=True)

    def both(tid: int, nice: int, slice: int) -> None:
        attributes = _ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice, 0, 0)
        if library.syscall(ctypes.c_long(number), ctypes.c_long(tid), attributes,
                           ctypes.c_long(0)) == 0:
            return
        failure = ctypes.get_errno()
        if failure not in (errno.ENOSYS, errno.EPERM):
            raise OSError(failure, os.strerror(failure))
        plain(tid, nice, slice)  # a sandbox may refuse the one and allow the other

    return both
