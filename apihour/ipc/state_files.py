"""Files that the daemon's processes share: with memory behind them, and whole at any time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from apihour.ipc.giving import give

__all__ = ["StateFile", "replace_json", "reserve"]


class StateFile:
    """A file that another process replaces; whether it is another one costs one stat(2)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def has_changed(self) -> bool:
        """Whether it is another one than it was, or is gone, since the last call. Raises OSError.

        Before the first call it was not there.
        """
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            seen = None
        before, self._seen = self._seen, seen
        return seen != before


def reserve(fd: int, size: int) -> None:
    """Give a file at least `size` bytes, all with memory behind them; what is there stays.

    A page of a mapped file that the file system has no room for is a SIGBUS to whoever touches
    it first; asked for beforehand, it is an error that says so (posix_fallocate(3)).
    Raises OSError (ENOSPC, EDQUOT, EFBIG) when there is no room; then nothing has changed.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    elif os.fstat(fd).st_size < size:  # macOS
        os.ftruncate(fd, size)


def replace_json(path: Path, value: Any, owner: tuple[int, int] | None = None) -> None:
    """Put another file (0600) in the place of `path`, of that (uid, gid).

    The directory may be another user's than root's, who writes: nothing is followed.
    Raises OSError; then `path` is as it was, and nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            if owner is not None:
                give(fd, owner)
            json.dump(value, file)
        temporary.rename(path)
    except OSError:  # most often no room is left: take none
        temporary.unlink(missing_ok=True)
        raise
