"""Locks that say who lives: held until the last process that has them open has ended.

Rules:

- flock(2): a fork inherits the lock with the descriptor, and the kernel lets go of it however
  the holder ends. It means the same in every pid namespace; a pid does not.
- Nobody waits for one: who finds it held goes on without.
- What is opened may lie in a directory of another user: no link is followed, nothing is
  waited for, and only a plain file counts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from apihour.ipc.giving import give

__all__ = ["is_locked", "is_same", "join", "lock_alone", "make_locked"]

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def make_locked(path: str | os.PathLike[str], owner: tuple[int, int], shared: bool) -> int:
    """Make the file anew (0600) and lock it; returns the descriptor that holds the lock.

    A `shared` lock may be joined by others. Raises OSError when it cannot be made.
    """
    fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        give(fd, owner)
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def join(path: str | os.PathLike[str]) -> int:
    """Hold a shared lock too. Raises OSError; BlockingIOError: it is being swept."""
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock_alone(path: str | os.PathLike[str]) -> int:
    """Take a lock that nobody holds; returns the descriptor.

    Raises FileNotFoundError when there is none, BlockingIOError when somebody holds it.
    """
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_same(fd, path):  # the one before was swept, and its name has a new holder
            raise BlockingIOError(errno.EAGAIN, "replaced meanwhile")
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether somebody holds a lock that is not shared; False when there is no such file."""
    try:
        fd = _open(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def is_same(fd: int, path: str | os.PathLike[str]) -> bool:
    """Whether `path` still leads to the file that is open as `fd`."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:
        return False


def _open(path: str | os.PathLike[str]) -> int:
    fd = os.open(path, _OPEN)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{os.fspath(path)!r} is no plain file")
    return fd
