"""The scoreboard: one small shared file in which every worker keeps a row of numbers.

Rules:

- A row has one writer: the arbiter claims and frees it, its worker fills it.
- Every field is one aligned 64-bit float, so a reader never sees half of a value.
- Its memory is reserved when it is made: no writer of a row ever finds the disk full.
- Its arbiter holds its lock (apihour.ipc.holds), and nobody else: it says that the arbiter lives.
- Readers (the accept loop, the arbiter, the console) take no lock and tolerate a worker
  that is stopped: its heartbeat simply grows old.
"""

from __future__ import annotations

import enum
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

from apihour.errors import ApihourError
from apihour.ipc.holds import is_same, make_locked
from apihour.ipc.state_files import reserve

__all__ = [
    "FIELDS",
    "ROWS",
    "BoardRow",
    "Figure",
    "Scoreboard",
    "ScoreboardFullError",
    "WorkerState",
    "make_file",
    "map_file",
    "worker_name",
]

ROWS = 512  # generations of workers that may live side by side, retiring ones included
FIELDS = 32  # numbers of a row
_SIZE = (ROWS + 1) * FIELDS * 8


class ScoreboardFullError(ApihourError):
    """More workers serve or drain than there are rows; when one has left, there is one."""


class WorkerState(enum.IntEnum):
    """What a worker is doing."""

    FREE = 0
    STARTING = 1
    SERVING = 2
    DRAINING = 3
    EXITING = 4


class Figure(enum.IntEnum):
    """Figures of the daemon as a whole, in the row before the workers'.

    ``UNREADY`` is 1 once the daemon is to stop: load balancers must send nothing more.
    ``ROWS_USED`` bounds the rows worth a look. ``TEMPLATE`` is the pid of the process that
    workers are forked from, 0 without one.
    """

    ARBITER = 0
    GENERATION = 1
    WANTED = 2
    RELOADS = 3
    RELOADS_FAILED = 4
    RESTARTS = 5
    TIMEOUTS = 6
    CONSOLE_RESTARTS = 7
    STARTED = 8
    UNREADY = 9
    ROWS_USED = 10
    TEMPLATE = 11
    LOST_LINES = 12


def _column(index: int) -> property:
    def read(row: BoardRow) -> float:
        return row.cells[row.base + index]

    def write(row: BoardRow, value: float) -> None:
        row.cells[row.base + index] = value

    return property(read, write)


class BoardRow:
    """One worker's row, as attributes that read and write the shared file.

    Times are CLOCK_MONOTONIC seconds.
    """

    __slots__ = ("base", "cells", "index")

    def __init__(self, cells: memoryview[float], index: int) -> None:
        self.cells = cells
        self.index = index
        self.base = (index + 1) * FIELDS

    state = _column(0)
    pid = _column(1)
    slot = _column(2)
    generation = _column(3)
    started = _column(4)
    heartbeat = _column(5)
    connections = _column(6)
    accepted = _column(7)
    lag = _column(8)
    accepting = _column(9)
    requests = _column(10)
    errors = _column(11)
    refused = _column(15)
    left = _column(12)
    drain_total = _column(16)
    deadline = _column(13)
    blocks = _column(14)
    lost_lines = _column(17)
    engines_down = _column(18)

    def connection_numbers(self) -> memoryview[float]:
        """`connections` and `accepted` in the file itself: each connection writes them."""
        return self.cells[self.base + 6:self.base + 8]

    def clear(self) -> None:
        """Set every field to zero, which frees the row."""
        for index in range(self.base, self.base + FIELDS):
            self.cells[index] = 0.0

    @property
    def worker(self) -> str:
        """The worker's name."""
        return worker_name(int(self.slot), int(self.generation))


class Scoreboard:
    """The mapped file. ``create()`` makes it, ``open()`` joins one that exists."""

    def __init__(self, mapped: mmap.mmap, lock: int = -1) -> None:
        self.lock = lock
        self.map = mapped
        self.cells: memoryview[float] = memoryview(self.map).cast("d")
        self.rows = tuple(BoardRow(self.cells, index) for index in range(ROWS))

    @classmethod
    def create(cls, path: str, owner: tuple[int, int] | None = None) -> Scoreboard:
        """Make the file (0600), all zero, and hold its lock. Raises OSError when it cannot be."""
        lock = make_file(path, owner)
        try:
            return cls(map_file(path), lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open(cls, path: str) -> Scoreboard:
        """Map an existing file. Raises OSError, or ValueError when its size is another."""
        return cls(map_file(path))

    def is_at(self, path: str) -> bool:
        """In the arbiter: whether `path` still leads to the file."""
        return is_same(self.lock, path)

    def let_go(self) -> None:
        """In a child of the arbiter: the lock is the arbiter's alone."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def claim(self, slot: int, generation: int) -> BoardRow:
        """Take a free row for a new worker. Raises ScoreboardFullError when all are taken."""
        for row in self.rows:
            if row.state == WorkerState.FREE:
                row.clear()
                row.slot, row.generation = slot, generation
                row.started = row.heartbeat = time.monotonic()
                row.state = WorkerState.STARTING
                used = max(self.figure(Figure.ROWS_USED), row.index + 1)
                self.set_figure(Figure.ROWS_USED, used)
                return row
        raise ScoreboardFullError(
            f"all {ROWS} rows of the scoreboard are taken, by workers that serve or drain; "
            "expected a free one")

    def figure(self, which: Figure) -> float:
        """One figure of the daemon as a whole."""
        return float(self.cells[int(which)])

    def set_figure(self, which: Figure, value: float) -> None:
        """Set one figure of the daemon; only the arbiter does."""
        self.cells[int(which)] = value

    def count_figure(self, which: Figure) -> None:
        """Add one to a figure of the daemon; only the arbiter does."""
        self.cells[int(which)] += 1

    def used(self) -> tuple[BoardRow, ...]:
        """The rows that have ever been claimed, the free ones among them included."""
        return self.rows[: int(self.figure(Figure.ROWS_USED))]

    def active(self) -> Iterator[BoardRow]:
        """The rows that belong to a worker, by slot and generation."""
        taken = [row for row in self.used() if row.state != WorkerState.FREE]
        return iter(sorted(taken, key=lambda row: (row.slot, row.generation)))

    def close(self) -> None:
        """Unmap. Rows must not be used any more."""
        self.rows = ()
        self.cells.release()
        self.map.close()
        self.let_go()


def worker_name(slot: int, generation: int) -> str:
    """What a worker is called everywhere: ``slot.generation``."""
    return f"{slot}.{generation}"


def make_file(path: str, owner: tuple[int, int] | None) -> int:
    """Make the file under another name first: by its own it is never seen without its lock."""
    temporary = Path(path).with_name(f".{Path(path).name}.new")
    temporary.unlink(missing_ok=True)
    fd = make_locked(temporary, owner or (-1, -1), shared=False)
    try:
        reserve(fd, _SIZE)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        os.close(fd)
        raise
    return fd


def map_file(path: str) -> mmap.mmap:
    """Map the file by an opening of its own: a map keeps that, and so would keep a lock."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(fd, _SIZE)
    finally:
        os.close(fd)
