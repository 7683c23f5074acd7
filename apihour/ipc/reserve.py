"""Memory for a file that is mapped, asked for before it is touched.

A page of a mapped file that the file system has no room for is a SIGBUS to whoever touches it
first; asked for beforehand, it is an error that says so (posix_fallocate(3)).
"""

from __future__ import annotations

import os

__all__ = ["reserve"]


def reserve(fd: int, size: int) -> None:
    """Give a file at least `size` bytes, all with memory behind them; what is there stays.

    Raises OSError (ENOSPC, EDQUOT, EFBIG) when there is no room; then nothing has changed.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    elif os.fstat(fd).st_size < size:  # macOS
        os.ftruncate(fd, size)
