"""Single steps on the files of the shared store, each done or not when a process is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

__all__ = ["boot_id", "lock", "move_directory", "remove_if_empty"]


def boot_id() -> bytes:
    """What tells this boot of the machine from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()[:8]
    except FileNotFoundError:  # not Linux
        return b"0"


def lock(fd: int) -> bool:
    """Take the lock of an open file for this process; False when another has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def move_directory(fresh: bytes, place: bytes) -> bool:
    """Rename a prepared directory; False, and it is gone, when the place is taken or moved."""
    try:
        os.rename(fresh, place)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            return False
        raise
    return True


def remove_if_empty(place: bytes) -> None:
    """Remove a directory, if it is there and holds nothing."""
    try:
        os.rmdir(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
