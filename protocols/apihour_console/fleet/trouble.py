"""What goes wrong though the daemon serves: failing answers, lost log lines, full disks.

Rules:

- What is lately is the last minute: counters are noted every second, and only their growth
  counts, so that a worker which leaves takes nothing with it. Failing answers are looked for in
  the last ten seconds as well: after many good ones a bad deploy would show late.
- A worker that starts or leaves is no trouble; one that is stuck, stopped or missing is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from apihour_console.fleet.census import DaemonSeen, Seen, state_of
from apihour_console.text.render import size

__all__ = ["Disk", "HealthRow", "Lately", "Recent", "disks", "troubles"]

_MINUTE = 60.0  # seconds that are "lately"
_LATEST = 10.0  # seconds in which answers that fail are looked for too
_SHARE = 0.1  # of the answers that may be 5xx: one in ten
_FEWEST = 5  # answers of 5xx that are no accident
_FULL = 0.01  # of a file system's blocks that are left
_LEAST = 16384  # bytes: of a small file system, where a hundredth is a few lines of a log


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
        return self.size > 0 and self.free < max(_LEAST, _FULL * self.size)


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

    def lately(self, seconds: float = _MINUTE) -> Lately:
        """How much was counted in the last `seconds`, a minute at most, or since the first look."""
        since = self._noted[-1][0] - seconds
        then = next((grown for at, grown in reversed(self._noted) if at <= since),
                    self._noted[0][1])
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
    seen: Sequence[Seen], daemons: Sequence[DaemonSeen], recent: Recent, found: Sequence[Disk],
) -> Iterator[HealthRow]:
    """A row for each worker and for all that may go wrong beside them."""
    for one in seen:
        yield _row(one.row.worker, not one.is_stuck and not one.is_stopped, state_of(one))
    wanted = sum(one.wanted for one in daemons if one.alive and not one.unready)
    there = sum(one.row.state in ("starting", "serving") for one in seen)
    down = sum(one.row.engines_down > 0 for one in seen)
    if down:
        yield _row("engines", False, f"down in {down} of {len(seen)} workers")
    yield _row("workers", there >= wanted, f"{there} of {wanted} wanted")
    yield _answers(recent)
    lost = recent.lately().lost_lines
    yield _row("log", not lost, f"{lost} lines of the last minute could not be written")
    for disk in found:
        yield _row(f"disk of {disk.what}", not disk.is_full,
                   f"{disk.path}: {size(disk.free)} free of {size(disk.size)}")


def _answers(recent: Recent) -> HealthRow:
    """Of the last seconds where these are bad, else of the last minute."""
    latest, minute = recent.lately(_LATEST), recent.lately()
    when, counted = ("10 s", latest) if _are_failing(latest) else ("minute", minute)
    return _row("answers", not _are_failing(counted),
                f"{counted.errors} of {counted.requests} requests of the last {when} got a 5xx")


def _are_failing(counted: Lately) -> bool:
    share = counted.errors / max(counted.requests, counted.errors, 1)
    return counted.errors >= _FEWEST and share > _SHARE


def _row(name: str, is_fine: bool, detail: str) -> HealthRow:
    return HealthRow(name, "ok" if is_fine else "not ok", detail)
