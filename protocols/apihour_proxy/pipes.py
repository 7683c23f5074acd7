"""Pipes through which the kernel moves bytes from socket to socket (splice(2)), a worker's few.

Rules:

- A pipe is lent for as long as bytes stand in it, and comes back empty.
- There are few: an unprivileged user's pipes get small beyond some 64 MB of them (pipe(7)).
  Where none is free, or can be had, bytes are copied.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

__all__ = ["Pipes"]

_MOST = 16
SIZE = 1 << 20  # bytes; the largest that pipe-max-size allows by default


class Pipes:
    """The pipes of one Proxy."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []
        self._made = 0

    def take(self) -> tuple[int, int] | None:
        """An empty pipe, its end to read and its end to write; None: copy."""
        if self._free:
            return self._free.pop()
        if self._made >= _MOST or not hasattr(os, "splice"):
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # no descriptor left
            return None
        self._made += 1
        with contextlib.suppress(OSError):  # a smaller one does it too
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, SIZE)
        return pipe

    def give(self, pipe: tuple[int, int]) -> None:
        """Take an empty one back."""
        self._free.append(pipe)

    def drop(self, pipe: tuple[int, int]) -> None:
        """Close one that is not empty."""
        self._made -= 1
        for end in pipe:
            os.close(end)

    def close(self) -> None:
        """Close those that nobody has."""
        while self._free:
            self.drop(self._free.pop())
