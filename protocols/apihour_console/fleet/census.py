"""Who the workers are and how they do, from shared memory and /proc alone.

Rules: nobody is asked and nothing is waited for, so a worker that is stuck or stopped is
described as well as any other; what it costs does not depend on them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from apihour.ipc.daemons import scoreboards
from apihour.ipc.holds import is_locked
from apihour.ipc.processes import ENDED, STOPPED, stat_of
from apihour.ipc.row_record import RowRecord, row_record
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Figure, Scoreboard
from apihour.ops.annotations import Bytes, Percent, Seconds
from apihour.ops.stacks import SILENT

__all__ = ["Census", "DaemonSeen", "Process", "Seen", "WorkerRow"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_FRESH = 0.2  # seconds below which a CPU share would be noise: the one before is shown


@dataclass(frozen=True)
class Process:
    """What /proc says of one process (proc(5)); `cpu` in seconds, `rss` in bytes."""

    pid: int
    state: str
    cpu: float
    rss: int

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped by a signal or a debugger."""
        return self.state in STOPPED

    @classmethod
    def read(cls, pid: int) -> Process | None:
        """The process of that pid, None when there is none or it is a zombie."""
        fields = stat_of(pid)
        if not fields or fields[0] in ENDED:
            return None
        cpu = (int(fields[11]) + int(fields[12])) / _TICK
        return cls(pid, fields[0], cpu, int(fields[21]) * _PAGE)


@dataclass(frozen=True)
class Seen:
    """One worker at one moment: its row, its process, its share of one CPU in percent."""

    row: RowRecord
    process: Process
    cpu: float
    arbiter: int

    @property
    def is_stopped(self) -> bool:
        return self.process.is_stopped

    @property
    def is_stuck(self) -> bool:
        """Whether its loop has not turned for long. One that starts has no loop yet."""
        return self.row.silent > SILENT and self.row.state != "starting"

    @property
    def lag(self) -> float:
        """Seconds the loop is late by."""
        return max(self.row.lag, self.row.silent) if self.is_stuck else self.row.lag


@dataclass(frozen=True)
class DaemonSeen:
    """The daemon as a whole, from the scoreboard of one arbiter; times in seconds."""

    arbiter: int
    alive: bool
    wanted: int
    generation: int
    reloads: int
    reloads_failed: int
    restarts: int
    timeouts: int
    console_restarts: int
    unready: bool
    lost_lines: int
    started: float
    template: Process | None
    """The process that workers are forked from, under ``--template``."""


@dataclass(frozen=True)
class WorkerRow:
    """One worker, as ``workers`` lists it."""

    worker: str
    pid: int
    state: str
    age: Seconds
    rss: Bytes
    cpu: Percent
    lag: Seconds
    connections: int
    accepted: int
    requests: int
    errors: int

    @classmethod
    def of(cls, seen: Seen, where: str = "") -> WorkerRow:
        """The row of a worker; `where` is the line it is stuck in, if known."""
        row = seen.row
        return cls(
            row.worker, row.pid, state_of(seen, where), row.age, seen.process.rss, seen.cpu,
            seen.lag, row.connections, row.accepted, row.requests, row.errors,
        )


def state_of(seen: Seen, where: str = "") -> str:
    """A worker's state in words."""
    row = seen.row
    if seen.is_stopped:
        return f"stopped by a signal, silent {row.silent:.1f} s"
    if seen.is_stuck:
        return f"stuck {row.silent:.1f} s in {where}" if where else f"stuck {row.silent:.1f} s"
    if row.state == "draining":
        return f"draining {row.left} of {row.drain_total}, {row.time_left:.0f} s left"
    if row.state == "serving" and not row.accepting:
        return "suspended"
    return row.state


def _process(pid: int) -> Process | None:
    return Process.read(pid) if pid > 0 else None


class Census:
    """Looks at all scoreboards of a daemon; keeps them mapped, and the CPU times seen."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._boards: dict[int, Scoreboard] = {}
        self._inodes: dict[int, int] = {}
        self._cpu: dict[int, tuple[float, float, float]] = {}

    def boards(self) -> dict[int, Scoreboard]:
        """The scoreboards by arbiter, oldest first."""
        found = dict(scoreboards(self.runtime))
        for gone in self._boards.keys() - found.keys():
            self._boards.pop(gone).close()
        for pid, path in found.items():
            try:
                inode = path.stat().st_ino
                if pid in self._boards and inode != self._inodes.get(pid):
                    self._boards.pop(pid).close()  # it vanished, and was made again
                if pid not in self._boards:
                    self._boards[pid] = Scoreboard.open(str(path))
                    self._inodes[pid] = inode
            except (OSError, ValueError):  # just made, or gone: the next look will tell
                continue
        return {pid: self._boards[pid] for pid in found if pid in self._boards}

    def workers(self) -> list[Seen]:
        """Every worker whose process lives, by slot and generation."""
        seen: list[Seen] = []
        for arbiter, board in self.boards().items():
            for row in board.active():
                record = row_record(row)
                process = Process.read(record.pid) if record.pid > 0 else None
                if process is not None:
                    seen.append(Seen(record, process, self._share(process, record), arbiter))
        living = {one.process.pid for one in seen}
        self._cpu = {pid: kept for pid, kept in self._cpu.items() if pid in living}
        return sorted(seen, key=lambda one: (one.row.slot, one.row.generation, one.row.pid))

    def _share(self, process: Process, row: RowRecord) -> float:
        """Percent of one CPU since the last look, or over its life at the first."""
        now = time.monotonic()
        at, used, share = self._cpu.get(process.pid, (now - max(row.age, 0.1), 0.0, 0.0))
        if now - at < _FRESH and process.pid in self._cpu:
            return share
        share = 100.0 * (process.cpu - used) / max(now - at, _FRESH)
        self._cpu[process.pid] = (now, process.cpu, share)
        return share

    def daemons(self) -> list[DaemonSeen]:
        """The counters of every arbiter there is or was, oldest first."""
        return [
            DaemonSeen(
                arbiter=arbiter, alive=is_locked(self.runtime.scoreboard(arbiter)),
                wanted=int(board.figure(Figure.WANTED)),
                generation=int(board.figure(Figure.GENERATION)),
                reloads=int(board.figure(Figure.RELOADS)),
                reloads_failed=int(board.figure(Figure.RELOADS_FAILED)),
                restarts=int(board.figure(Figure.RESTARTS)),
                timeouts=int(board.figure(Figure.TIMEOUTS)),
                console_restarts=int(board.figure(Figure.CONSOLE_RESTARTS)),
                unready=bool(board.figure(Figure.UNREADY)),
                lost_lines=int(board.figure(Figure.LOST_LINES)),
                started=board.figure(Figure.STARTED),
                template=_process(int(board.figure(Figure.TEMPLATE))),
            )
            for arbiter, board in self.boards().items()
        ]

    def close(self) -> None:
        """Unmap."""
        while self._boards:
            self._boards.popitem()[1].close()
