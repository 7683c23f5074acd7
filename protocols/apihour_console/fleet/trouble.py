"""What goes wrong though the daemon serves: failing answers, lost log lines, full disks.

Rules:

- What is lately is the last minute: counters are noted every second, and only their growth
  counts, so that a worker which leaves takes nothing with it.
- A worker that starts or leaves is no trouble; one that is stuck, stopped or missing is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from apihour_console.fleet.census import DaemonSeen, Seen, state_of

__all__ = ["Disk", "HealthRow", "Lately", "Recent", "disks", "troubles"]

_MINUTE = 60.0  # seconds that are "lately"
_SHARE = 0.1  # of the answers that may be 5xx: one in ten
_FEWEST = 5  # answers of 5xx that are no accident
_FULL = 0.01  # of a file system's blocks that are left


@dataclass(frozen=True)
class HealthRow:
    """The daemon, a worker or something it depends on: ``ok``, or what is wrong."""

    name: str
    status: str
    detail: str


@dataclass(frozen=True)
class Lately:
    """How much the counters grew."""

    requests: int = 0
    errors: int = 0
    lost_lines: int = 0


@dataclass(frozen=True)
class Disk:
    """What statvfs(3) says of the file system that a path is on; sizes in bytes."""

    what: str
    path: str
    free: int
    size: int

    @property
    def is_full(self) -> bool:
        """Whether next to nothing is left for who is not root."""
        return self.free < _FULL * self.size


class Recent:
    """The counters of the last minute; :meth:`note` them about once a second."""

    def __init__(self) -> None:
        self._last: dict[int, Lately] = {}
        self._grown = Lately()
        self._noted: deque[tuple[float, Lately]] = deque([(float("-inf"), Lately())])

    def note(self, now: float, seen: Iterable[Seen], daemons: Iterable[DaemonSeen]) -> None:
        """Take the counters at `now` (seconds); what was counted before the first look is old."""
        counted = {one.row.pid: Lately(one.row.requests, one.row.errors, one.row.lost_lines)
                   for one in seen}
        counted |= {-one.arbiter: Lately(lost_lines=one.lost_lines) for one in daemons}
        is_first = self._noted[0][0] == float("-inf")
        if is_first:
            self._noted[0] = (now, Lately())
        for key, value in () if is_first else counted.items():
            before = astuple(self._last.get(key, Lately()))
            grown = (max(0, new - old) for new, old in zip(astuple(value), before, strict=True))
            self._grown = _sum(self._grown, Lately(*grown))
        self._last = counted
        self._noted.append((now, self._grown))
        while len(self._noted) > 2 and self._noted[1][0] <= now - _MINUTE:
            self._noted.popleft()

    def lately(self) -> Lately:
        """How much was counted in the last minute, or since the first look."""
        then = self._noted[0][1]
        return Lately(*(new - old for new, old in zip(
            astuple(self._grown), astuple(then), strict=True)))


def _sum(one: Lately, other: Lately) -> Lately:
    return Lately(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))


def disks(paths: Mapping[str, str]) -> list[Disk]:
    """The file systems of some paths, by what they are for; one that is not there is left out."""
    found: list[Disk] = []
    for what, path in paths.items():
        try:
            told = os.statvfs(path)
        except OSError:
            continue
        found.append(Disk(what, path, told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize))
    return found


def troubles(
    seen: Sequence[Seen], daemons: Sequence[DaemonSeen], lately: Lately, found: Sequence[Disk],
) -> Iterator[HealthRow]:
    """A row for each worker and for all that may go wrong beside them."""
    for one in seen:
        yield _row(one.row.worker, not one.is_stuck and not one.is_stopped, state_of(one))
    wanted = sum(one.wanted for one in daemons if one.alive and not one.unready)
    there = sum(one.row.state in ("starting", "serving") for one in seen)
    yield _row("workers", there >= wanted, f"{there} of {wanted} wanted")
    share = lately.errors / max(lately.requests, lately.errors, 1)
    yield _row("answers", lately.errors < _FEWEST or share <= _SHARE,
               f"{lately.errors} of {lately.requests} requests of the last minute got a 5xx")
    yield _row("log", not lately.lost_lines,
               f"{lately.lost_lines} lines of the last minute could not be written")
    for disk in found:
        yield _row(f"disk of {disk.what}", not disk.is_full,
                   f"{disk.path}: {disk.free / 1e6:.0f} MB free of {disk.size / 1e6:.0f} MB")


def _row(name: str, is_fine: bool, detail: str) -> HealthRow:
    return HealthRow(name, "ok" if is_fine else "not ok", detail)
