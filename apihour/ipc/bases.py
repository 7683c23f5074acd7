"""Where the runtime directories of one user's daemons lie: ``/dev/shm/apihour-UID``.

Rules:

- APIHOUR_RUNTIME_DIR is the only place where it is set: the shell looks where it was told.
  Not XDG_RUNTIME_DIR: it goes when its user logs out, and the daemon stays.
- Only a directory of that user with mode 0700 counts. Everybody may make one of our name in
  /dev/shm: then ours has a longer one, ``apihour-UID-RANDOM``, which is found just as well.
- The temporary directory is looked for only where nothing else can be written: the search
  writes files, and fails where nothing can be written at all.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from apihour.errors import ConfigurationError
from apihour.ipc.giving import give

__all__ = ["base_directory", "is_private", "make_base", "place", "private_bases", "unusual"]

_MEMORY = "/dev/shm"


def place() -> Path:
    """The directory that holds the users' own, on memory where there is some.

    Raises ConfigurationError when there is none that can be written.
    """
    told = os.environ.get("APIHOUR_RUNTIME_DIR")
    if told:
        if not _is_writable(told):
            raise ConfigurationError(f"APIHOUR_RUNTIME_DIR {told!r}: expected a writable directory")
        return Path(told)
    if _is_writable(_MEMORY):
        return Path(_MEMORY)
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise ConfigurationError(
            f"runtime directory: neither {_MEMORY} nor a temporary directory is writable; "
            "set APIHOUR_RUNTIME_DIR to one that is"
        ) from error


def _is_writable(path: str) -> bool:
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


def base_directory(uid: int) -> Path:
    """The directory of that user's daemons by its usual name. Raises ConfigurationError."""
    return place() / f"apihour-{uid}"


def is_private(path: Path, uid: int) -> bool:
    """Whether `path` is a directory of that user (no link to one) that only he may enter."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077


def private_bases(uid: int | None = None) -> list[Path]:
    """The directories there are of that user's daemons, the usual name first; None: of all."""
    found = {path for path, owner in _named() if uid in (None, owner) and is_private(path, owner)}
    if uid is not None and is_private(usual := base_directory(uid), uid):
        found.add(usual)  # also where the directory that it lies in cannot be listed
    return sorted(found, key=lambda path: (path.name.count("-"), path.name))


def _named() -> Iterator[tuple[Path, int]]:
    """What is named as such a directory, and the uid that the name tells."""
    parent = place()
    try:
        names = os.listdir(parent)
    except PermissionError:
        return
    for name in names:
        words = name.split("-")
        if words[0] == "apihour" and 2 <= len(words) <= 3 and words[1].isdecimal():
            yield parent / name, int(words[1])


def make_base(uid: int, gid: int) -> Path:
    """Find or make the directory of that user's daemons.

    Raises ConfigurationError when none can be made.
    """
    usual = base_directory(uid)
    try:
        with contextlib.suppress(FileExistsError):
            usual.mkdir(0o700)
            give(usual, (uid, gid))
        if is_private(usual, uid):
            return usual
        for other in private_bases(uid):
            return other
        other = Path(tempfile.mkdtemp(prefix=f"{usual.name}-", dir=usual.parent))
        give(other, (uid, gid))
    except OSError as error:
        raise ConfigurationError(f"runtime directory {str(usual)!r}: {error.strerror}") from error
    return other


def unusual(base: Path, uid: int) -> str:
    """One line saying why a base has not its usual name; empty when it has."""
    usual = base_directory(uid)
    if base == usual:
        return ""
    try:
        found = usual.lstat()
    except OSError:
        return ""
    return (f"runtime directory {str(usual)!r}: expected a directory of uid {uid} with mode "
            f"drwx------, found uid {found.st_uid}, mode {stat.filemode(found.st_mode)}; "
            f"using {str(base)!r}")
