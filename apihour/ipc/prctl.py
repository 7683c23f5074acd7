"""prctl(2): what Linux does for a process that asks for it."""

from __future__ import annotations

import os

__all__ = ["PR_SET_CHILD_SUBREAPER", "PR_SET_PDEATHSIG", "prctl", "preload"]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def preload() -> None:
    """Load what :func:`prctl` needs, so that the children share it."""
    import ctypes

    ctypes.CDLL(None)


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument. Raises OSError; AttributeError where there is none."""
    import ctypes  # 2 ms and 1 MB that only those pay who use it

    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
