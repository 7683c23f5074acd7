"""Files that decide who gets in, or say who did: whose they are and who may write them.

Rules:

- What sshd(8) demands with StrictModes: owned by root or by this user, and writable by nobody
  else; the directory that holds it likewise. A directory with the sticky bit may be writable:
  nobody replaces another's file in it, and a file of another's is refused by its owner.
- One line per refusal: the path, what it is, what was expected, the command that mends it.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path

__all__ = [
    "PrivateFileError", "check_directory", "check_trusted", "check_writers", "open_private",
    "read_tail",
]


class PrivateFileError(ValueError):
    """A file that somebody else may have written, or may read; ``str()`` is one line."""


def check_trusted(path: Path, facts: os.stat_result) -> None:
    """Raise PrivateFileError unless only root and this user can have written `path`."""
    if facts.st_uid not in (0, os.geteuid()):
        raise PrivateFileError(
            f"{path}: is owned by {_user(facts.st_uid)}; expected {_user(os.geteuid())} or root: "
            f"chown {_user(os.geteuid())} {shlex.quote(str(path))}")
    check_writers(path, facts)


def check_writers(path: Path, facts: os.stat_result) -> None:
    """Raise PrivateFileError when others than the owner of `path` may write to it."""
    sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX
    if facts.st_mode & 0o022 and not sticky:
        raise PrivateFileError(
            f"{path}: mode {stat.S_IMODE(facts.st_mode):04o} lets others write to it; "
            f"expected {stat.S_IMODE(facts.st_mode) & ~0o022:04o}: "
            f"chmod go-w {shlex.quote(str(path))}")


def check_directory(path: Path) -> None:
    """Raise PrivateFileError when others may replace the files of a directory; OSError."""
    check_trusted(path, path.stat())


def open_private(path: Path, flags: int) -> int:
    """Open a file of this user's own, 0600, never through a link; returns the descriptor.

    Raises PrivateFileError when it is a link, no file, another's, or open to others; OSError.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise PrivateFileError(f"{path}: is a symbolic link; expected a file: "
                                   f"rm {shlex.quote(str(path))}") from error
        raise
    try:
        _check_private(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_tail(path: Path, most: int) -> str:
    """The text of such a file, its last `most` bytes. Raises as :func:`open_private`."""
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most).decode("utf-8", "replace")


def _check_private(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise PrivateFileError(f"{path}: expected a regular file")
    check_trusted(path, facts)
    if facts.st_mode & 0o077:
        raise PrivateFileError(
            f"{path}: mode {stat.S_IMODE(facts.st_mode):04o} lets others read it; expected 0600: "
            f"chmod 600 {shlex.quote(str(path))}")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
