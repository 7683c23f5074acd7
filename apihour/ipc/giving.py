"""Giving a file to whom it belongs, where it is not theirs already."""

from __future__ import annotations

import os

__all__ = ["give"]


def give(place: int | str | os.PathLike[str], owner: tuple[int, int]) -> None:
    """Have `place` (a path, which is not followed, or a descriptor) belong to that (uid, gid).

    What belongs to them already is left alone: a service that may not call chown(2) at all
    (``SystemCallFilter=~@privileged``) need not then. Raises OSError.
    """
    found = os.fstat(place) if isinstance(place, int) else os.lstat(place)
    if (found.st_uid, found.st_gid) != owner:
        os.chown(place, *owner, follow_symlinks=isinstance(place, int))
