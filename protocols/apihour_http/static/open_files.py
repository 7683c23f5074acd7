"""Files beneath one directory: opened so that no path leads out, read piece by piece.

Rules:

- A path is walked by descriptors, name by name; no symbolic link is followed beneath the
  directory (it may be one itself), so nothing between a check and an open can change.
- Hidden names (``.git``, ``.env``) are not there; ``.well-known`` is (RFC 8615).
- Only regular files are read: a FIFO or a device could wait for ever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import NamedTuple

__all__ = ["FilePieces", "OpenFile", "is_shown", "open_beneath"]

# Bytes read at a stretch.
_PIECE = 65536
# Bytes handed to sendfile(2) at a stretch.
_SENT = 1 << 18
_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A link where none is followed, a socket, a name that no file system holds.
_NOT_THERE = frozenset({errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG})
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OpenFile(NamedTuple):
    """An open file; whoever has it closes `fd`."""

    fd: int
    size: int
    modified: int
    """Nanoseconds since the epoch."""


def open_beneath(directory: str, path: str) -> OpenFile | None:
    """The regular file at `path`, segments separated by slashes; None where there is none.

    Raises OSError for what is wrong beyond that: permissions, descriptors.
    """
    *folders, name = path.split("/")
    if not all(map(is_shown, [*folders, name])):
        return None
    try:
        at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                below = os.open(folder, _WALK, dir_fd=at)
                os.close(at)
                at = below
            fd = os.open(name, _READ, dir_fd=at)
        finally:
            os.close(at)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return None
    return OpenFile(fd, found.st_size, found.st_mtime_ns)


def is_shown(name: str) -> bool:
    """Whether one name of a path is served: not one that is hidden, nor an empty one."""
    return bool(name) and "\0" not in name and (name[0] != "." or name == ".well-known")


class FilePieces:
    """The bytes of an open file from `start` on, as an async iterator; closes it at the end."""

    __slots__ = ("_at", "_fd", "_left")

    def __init__(self, fd: int, start: int, count: int) -> None:
        self._fd = fd
        self._at = start
        self._left = count
        with contextlib.suppress(OSError):  # only advice, for a disk that is slow
            os.posix_fadvise(fd, start, min(count, 1 << 20), os.POSIX_FADV_WILLNEED)

    def __aiter__(self) -> FilePieces:
        return self

    async def __anext__(self) -> bytes:
        piece = os.pread(self._fd, min(_PIECE, self._left), self._at) if self._left else b""
        if not piece:  # or it was cut shorter meanwhile: the answer says how much was promised
            raise StopAsyncIteration
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def send_to(self, fd: int) -> int:
        """Put some of it into the socket `fd`; the bytes that it took, 0 at the end.

        Raises BlockingIOError when it takes none now, another OSError when it is gone.
        """
        sent = os.sendfile(fd, self._fd, self._at, min(_SENT, self._left)) if self._left else 0
        self._at += sent
        self._left -= sent
        return sent

    async def aclose(self) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file, once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close
