"""Where somebody else has the usual name of a user's runtime directories: the longer one instead.

Rule: read where that is so, and by who looks for daemons.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from apihour.ipc.bases import base_directory, is_private, place
from apihour.ipc.giving import give

__all__ = ["other_base", "private_bases", "unusual"]


def other_base(usual: Path, uid: int, gid: int) -> Path:
    """The directory that is there of a longer name than `usual`, or a new one. Raises OSError."""
    for other in private_bases(uid):
        return other
    other = Path(tempfile.mkdtemp(prefix=f"{usual.name}-", dir=usual.parent))
    give(other, (uid, gid))
    return other


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
