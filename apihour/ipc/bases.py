"""Where the runtime directories of one user's daemons lie: ``/dev/shm/apihour-UID``.

Rules:

- APIHOUR_RUNTIME_DIR is the only place where it is set: the shell looks where it was told.
  Not XDG_RUNTIME_DIR: it goes when its user logs out, and the daemon stays.
- Only a directory of that user with mode 0700 counts. Everybody may make one of our name in
  /dev/shm: then ours has a longer one, ``apihour-UID-RANDOM``, which is found just as well;
  see ``taken_bases.py``.
- The temporary directory is looked for only where nothing else can be written: the search
  writes files, and fails where nothing can be written at all.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from apihour.errors import ConfigurationError

__all__ = ["base_directory", "is_private", "place"]

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
