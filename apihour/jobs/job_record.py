"""What the workers of a daemon know together of one job: an immutable record, and its changes.

Rules:

- A change is a pure function from one record to the next; it counts once the store has taken it
  with compare-and-set, so of two workers that see the same only one is heard.
- Whether a run is alive is told by its lease, never by the record.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from apihour.jobs.declare import JobSpec

__all__ = ["CUT_SHORT", "LOST", "MOVED", "OK", "JobRecord", "is_failure", "settle"]

OK, MOVED, CUT_SHORT, LOST = "ok", "moved", "cut short", "lost"
"""How a run ends, beside ``failed: WHY``: moved to another worker, cut short by a drain's end."""
_LATE = 60.0  # seconds after which a run is no longer late, but missed
_SET_BACK = 60.0  # seconds by which the clock must go back to be seen
_SLEWED = 1.0  # by which it may while it is kept true


@dataclass(frozen=True)
class JobRecord:
    """The state of one job. Times are seconds since the epoch; 0: never.

    `next` is when it is due; `again` has it run as soon as it can, beside that. The rest is of
    its last run, which is under way while it has not `ended`; `token` is that run's. `at` is when
    the record was written.
    """

    schedule: str = ""
    next: float = 0.0
    again: bool = False
    paused: bool = False
    due: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    worker: str = ""
    token: int = 0
    result: str = ""
    runs: int = 0
    failures: int = 0
    at: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether its last run has not ended, or died."""
        return self.began > 0 and self.ended == 0

    def is_due(self, now: float) -> bool:
        """Whether a run shall begin, if none is under way."""
        return not (self.is_running or self.paused) and (self.again or self.next <= now)

    def to_bytes(self) -> bytes:
        """For the store."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> JobRecord:
        """What the store has; a new one where that is nothing, or nothing that can be read."""
        try:
            fields = json.loads(data or b"{}")
            known: dict[str, Any] = {
                name: type(default)(fields[name])
                for name, default in dataclasses.asdict(cls()).items() if name in fields}
            if not all(math.isfinite(value) for value in known.values()
                       if isinstance(value, float)):
                return cls()  # a time that is none is never due
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls()
        return cls(**known)

    def begun(self, spec: JobSpec, now: float, worker: str, token: int) -> JobRecord:
        """A run has begun."""
        due = min(self.next, now)
        next_ = spec.schedule.after(self.next, now) if self.next <= now else self.next
        return replace(self, next=next_, again=False, due=due, began=now, ended=0.0,
                       worker=worker, token=token, result="", runs=self.runs + 1, at=now)

    def over(self, token: int, now: float, result: str, again: bool) -> JobRecord:
        """The run of `token` has ended; unless another has begun since, which is unchanged."""
        if self.token != token or not self.is_running:
            return self
        return replace(self, ended=now, result=result, again=self.again or again,
                       failures=self.failures + is_failure(result), at=now)


def is_failure(result: str) -> bool:
    """Whether a run that ended so did not do its work; one that was moved does it elsewhere."""
    return result not in (OK, MOVED)


def settle(record: JobRecord, spec: JobSpec, now: float, is_held: bool) -> JobRecord:
    """The record after a look at the clock, and at whether a worker holds the job's lease."""
    schedule, is_set_back = spec.schedule, (
        now < record.at - _SET_BACK or record.next - now > spec.schedule.longest + _SLEWED)
    if record.schedule != schedule.text or is_set_back:
        record = replace(record, schedule=schedule.text, at=now, next=schedule.after(now, now))
    if record.is_running and not is_held:
        record = record.over(
            record.token, now, f"{LOST}: worker {record.worker} died or hung",
            spec.misfire == "once")
    if record.next > now:
        return record
    passed = replace(record, next=schedule.after(record.next, now), at=now)
    if record.paused:
        return passed
    if record.is_running:
        return replace(passed, again=record.again or spec.overlap == "queue")
    if now - record.next > _LATE:
        return replace(passed, again=record.again or spec.misfire == "once")
    return record
