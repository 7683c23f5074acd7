"""Where the CPU time of a process's main thread goes, sampled by the CPU time that it uses.

Rules:

- Whoever looks from another thread needs the interpreter's lock, and gets it where the main
  thread lets go of it: a loop that never rests looks idle then. So a timer that runs by CPU
  time (ITIMER_PROF of setitimer(2)) sends SIGPROF, whose handler Python calls in the main
  thread, before its next line.
- A look counts for all the CPU time since the one before: C code between two lines of Python
  is its caller's.
- The handler stays once it is there: SIGPROF without one ends the process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import CodeType, FrameType

from apihour.ops.stacks import fold

__all__ = ["CpuSampler", "CpuSamples"]

_STACKS = 20_000  # different stacks that are kept; a service has some hundreds


@dataclass
class CpuSamples:
    """One profile under way: seconds of CPU time by stack, innermost code first."""

    interval: float
    begun: float
    last: float
    stacks: defaultdict[tuple[CodeType, ...], float] = field(
        default_factory=lambda: defaultdict(float))
    used: float = 0.0
    """Seconds of CPU time of the thread, known when it is over."""

    def add(self, stack: tuple[CodeType, ...], now: float) -> None:
        spent, self.last = now - self.last, now
        if len(self.stacks) < _STACKS or stack in self.stacks:
            self.stacks[stack] += spent

    @property
    def unseen(self) -> float:
        """Seconds of CPU time that no look stands for: C code that has not come back."""
        return max(0.0, self.used - sum(self.stacks.values()))


class CpuSampler:
    """Looks at the main thread of this process; any number of profiles at a time."""

    def __init__(self) -> None:
        self._under_way: tuple[CpuSamples, ...] = ()

    def install(self) -> None:
        """Answer SIGPROF from now on; to be called in the main thread."""
        signal.signal(signal.SIGPROF, self._look)
        signal.siginterrupt(signal.SIGPROF, False)

    @property
    def is_installed(self) -> bool:
        """Whether SIGPROF is ours, and not another profiler's."""
        return signal.getsignal(signal.SIGPROF) == self._look

    def start(self, interval: float) -> CpuSamples:
        """Begin a profile with a look every `interval` seconds of CPU time."""
        now = _cpu_time()
        samples = CpuSamples(interval, now, now)
        self._set((*self._under_way, samples))
        return samples

    def stop(self, samples: CpuSamples) -> None:
        """End a profile."""
        self._set(tuple(one for one in self._under_way if one is not samples))
        samples.used = _cpu_time() - samples.begun

    def _set(self, under_way: tuple[CpuSamples, ...]) -> None:
        self._under_way = under_way
        interval = min((one.interval for one in under_way), default=0.0)
        signal.setitimer(signal.ITIMER_PROF, interval, interval)

    def _look(self, sig: int, frame: FrameType | None) -> None:
        stack, now = fold(frame), time.thread_time()
        for samples in self._under_way:
            samples.add(stack, now)


def _cpu_time() -> float:
    """Seconds of CPU time of the main thread, from any thread (pthread_getcpuclockid(3))."""
    clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    return time.clock_gettime(clock)
