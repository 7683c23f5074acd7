"""Asking a process that cannot answer for its stack: see ``faults.py``.

Rule: read where one is blocked, or stopped.
"""

from __future__ import annotations

import os
import re
import time

from apihour.blame import blame_frames
from apihour.ipc.faults import STACK_SIGNAL, stack_path
from apihour.ipc.processes import STOPPED, stat_of
from apihour.ipc.runtime import Runtime

__all__ = ["dump_frames", "dump_stack", "is_stopped", "read_stack", "where"]

_WAIT = 0.1  # seconds the arbiter gives a worker to write; faulthandler takes under 1 ms
_MOST = 16384  # bytes of a stack worth logging
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    return stat_of(pid)[:1] in [[state] for state in STOPPED]


def read_stack(runtime: Runtime, pid: int) -> str:
    """What the worker has written so far."""
    try:
        fd = os.open(stack_path(runtime, pid), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        return file.read(_MOST).decode(errors="replace").rstrip()


def dump_stack(runtime: Runtime, pid: int) -> str:
    """Make the worker write its stack and return it, or one line saying why there is none."""
    if is_stopped(pid):
        return f"process {pid} is stopped by a signal; a stopped process has no stack to give"
    path = stack_path(runtime, pid)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.close(fd)
        os.kill(pid, STACK_SIGNAL)
    except OSError as error:
        return f"process {pid} gives no stack: {error.strerror}"
    deadline = time.monotonic() + _WAIT
    before = -1
    while time.monotonic() < deadline:
        try:
            size = path.lstat().st_size
        except FileNotFoundError:
            break  # it ended just now, and took its file along
        if size and size == before:
            break
        before = size
        time.sleep(0.005)
    return read_stack(runtime, pid) or f"process {pid} wrote no stack within {_WAIT:g} s"


def where(stack: str) -> str:
    """`` in FILE:LINE: TEXT`` of the user's innermost frame in a stack; empty where it has none."""
    place = blame_frames(dump_frames(stack))
    return f" in {place}" if place else ""


def dump_frames(stack: str) -> list[tuple[str, int]]:
    """Files and lines of what :func:`dump_stack` returned, the innermost last.

    They are those of the thread that took the signal: the main one, where the loop runs.
    """
    main = stack.rpartition("Current thread")[2]
    return [(path, int(line)) for path, line in _FRAME.findall(main)][::-1]
