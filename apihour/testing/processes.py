"""Finding and ending processes by pid, from proc(5)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from apihour.ipc.processes import ENDED, STOPPED, stat_of

__all__ = ["end_processes", "is_running", "processes_of", "stands"]


def is_running(pid: int) -> bool:
    """Whether that process lives; one that has ended and was not collected yet does not."""
    fields = stat_of(pid)
    return bool(fields) and fields[0] not in ENDED


def stands(pid: int) -> bool:
    """Whether each of its threads is stopped, or it has ended: what is on its way to the disk is
    not stopped before it has come back, and the other threads go on until then."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    states = [(stat_of(f"{pid}/task/{thread}") or ENDED)[0] for thread in threads]
    return all(state in (*STOPPED, *ENDED) for state in states)


def processes_of(session: int, setting: str) -> set[int]:
    """The living processes of a session, and those exec'd with ``NAME=value`` (`setting`)."""
    wanted = setting.encode()
    found: set[int] = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_of(entry)  # none: it is gone meanwhile
            if fields and fields[0] not in ENDED and (
                int(fields[3]) == session or wanted in _environment(entry).split(b"\0")
            ):
                found.add(int(entry))
    return found


def _environment(pid: str) -> bytes:
    """What a process was exec'd with; nothing of one that ends, or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def end_processes(pids: Iterable[int], patience: float = 5.0) -> None:
    """SIGKILL each and wait until they are gone. Raises TimeoutError naming those that stay."""
    left = set(pids) - {os.getpid()}
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + patience
    while left := {pid for pid in left if is_running(pid)}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(left)} outlive SIGKILL")
        time.sleep(0.01)
