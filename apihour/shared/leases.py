"""Leases: a number of things that all processes of one daemon may have together.

Rules:

- A lease is a lock of fcntl(2) on one byte of a file. The kernel gives it back when its process
  ends, however it does; no clock and no pid is trusted. A fork does not inherit it.
- A process opens that file once: to close any descriptor of it is to lose all locks in it.
- Who wants a lease says so by a lock that many may share, on a byte of its own. Whoever has one
  to spare looks there, and gives it back; nobody is made to.
- Nobody waits for a lock.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import itertools
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from apihour.errors import SharedError

__all__ = ["MOST", "Leases", "Wish"]

MOST = 100_000  # leases of one kind
_WISHES = 1 << 20  # where the bytes of wishes begin, behind those of the leases
_MEMBERS = 1 << 21  # where each process has a byte
_PROCESSES = 1024
_LOCK = struct.Struct("@hhqqi")  # struct flock: type, whence, start, length, pid


class Wish(enum.IntEnum):
    """How much a process wants one more."""

    NOTHING = 0
    MORE = 1
    """Beyond its share, if there is one that nobody needs."""
    SHARE = 2
    """It has less than its share."""


class Leases:
    """One process's way to the leases in the file `path`, of which there are `limit`.

    One object for a file in each process. Raises SharedError when the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int) -> None:
        if not 1 <= limit <= MOST:
            raise SharedError(f"leases {os.fspath(path)!r}: limit {limit}; expected 1 to {MOST}")
        self.path = Path(path)
        self.limit = limit
        self.held: set[int] = set()
        self._wish = Wish.NOTHING
        self._fd = self._open()
        self._member = self._join()

    def take(self) -> int | None:
        """One of the leases, None when all are taken."""
        if len(self.held) >= self.limit:
            return None
        first = random.randrange(self.limit)
        for number in itertools.chain(range(first, self.limit), range(first)):
            if number not in self.held and self._lock(number):
                self.held.add(number)
                return number
        return None

    def give_back(self, number: int) -> None:
        """Another process may have it; one that is not held is no error."""
        if number in self.held:
            self.held.discard(number)
            self._change(fcntl.LOCK_UN, number)

    def wish(self, wish: Wish) -> None:
        """Say to the others what this process wants from now on."""
        if wish == self._wish:
            return
        if self._wish:
            self._change(fcntl.LOCK_UN, _WISHES + self._wish)
        self._wish = wish
        if wish:
            # Nobody locks these alone, so it is never refused.
            self._change(fcntl.LOCK_SH | fcntl.LOCK_NB, _WISHES + wish)

    def is_wished(self, wish: Wish) -> bool:
        """Whether another process has that wish; a call of 1 µs."""
        return bool(self._taken(_WISHES + wish, _WISHES + wish + 1))

    def members(self) -> int:
        """How many processes take part, this one among them."""
        return 1 + self._taken(_MEMBERS, _MEMBERS + _PROCESSES)

    def share(self) -> int:
        """How many each may count on; 0 when there are fewer than processes."""
        return self.limit // self.members()

    def taken(self) -> int:
        """How many are held by all processes together."""
        return len(self.held) + self._taken(0, MOST)

    def mend(self) -> set[int]:
        """Go on in a new file where the directory has vanished and was made again.

        Returns those of its leases that another process has there meanwhile.
        """
        if self._is_in_place() or not self.path.parent.parent.is_dir():
            return set()
        before, self._fd = self._fd, self._open()
        os.close(before)
        self._member = self._join()
        wish, self._wish = self._wish, Wish.NOTHING
        self.wish(wish)
        lost = {number for number in self.held if not self._lock(number)}
        self.held -= lost
        return lost

    def close(self) -> None:
        """Give all back. A second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.held.clear()

    def _open(self) -> int:
        with self._errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _join(self) -> int:
        for number in range(_MEMBERS, _MEMBERS + _PROCESSES):
            if self._lock(number):
                return number
        raise SharedError(f"leases {str(self.path)!r}: {_PROCESSES} processes use it; expected "
                          "fewer")

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def _lock(self, byte: int) -> bool:
        try:
            self._change(fcntl.LOCK_EX | fcntl.LOCK_NB, byte)
        except (BlockingIOError, PermissionError):  # either, by fcntl(2)
            return False
        return True

    def _change(self, how: int, byte: int) -> None:
        try:
            fcntl.lockf(self._fd, how, 1, byte)
        except (BlockingIOError, PermissionError):
            raise
        except OSError as error:
            raise SharedError(f"leases {str(self.path)!r}: {error.strerror}") from error

    def _taken(self, start: int, end: int) -> int:
        """How many bytes from `start` to before `end` other processes have locked."""
        if start >= end:
            return 0
        with self._errors():
            asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, end - start, 0)
            told: tuple[int, ...] = _LOCK.unpack(fcntl.fcntl(self._fd, fcntl.F_GETLK, asked))
        kind, _, at, length, _ = told
        if kind == fcntl.F_UNLCK:
            return 0
        # Of those in the way it tells any one, not the first.
        first, last = max(at, start), min(at + length, end)
        return last - first + self._taken(start, first) + self._taken(last, end)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SharedError(f"leases {str(self.path)!r}: {error.strerror}") from error
