"""The stack of a process that cannot run Python: by a signal that faulthandler answers in C.

Rules: a process that does not catch the signal is never sent it (it would die of it); a
stopped one neither. One dump of a process at a time.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from apihour.ipc.faults import STACK_SIGNAL, stack_path
from apihour.ipc.runtime import Runtime
from apihour.ops.stacks import Place

__all__ = ["catches", "dump", "parse_dump"]

_FRAME = re.compile(r'^  File "(.*)", line (\d+|\?\?\?) in (.*)$')
_LENGTH = 1 << 20


def catches(pid: int) -> bool:
    """Whether that process has a handler for the signal (SigCgt of proc(5))."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)", text, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (STACK_SIGNAL - 1) & 1)


async def dump(runtime: Runtime, pid: int, deadline: float) -> list[Place]:
    """The stack of the process's interrupted thread, innermost first; empty if it gave none."""
    try:
        return parse_dump(await _written(stack_path(runtime, pid), pid, deadline))
    except (FileNotFoundError, ProcessLookupError):
        return []  # it was ended in these milliseconds, and its file taken away


async def _written(path: Path, pid: int, deadline: float) -> str:
    """What the process writes when it is asked; empty when it cannot be."""
    until = time.monotonic() + deadline
    if not catches(pid) or not path.exists():
        return ""
    start = path.stat().st_size
    os.kill(pid, STACK_SIGNAL)
    size = -1
    while time.monotonic() < until:
        now = path.stat().st_size
        if now > start and now == size:
            break
        size = now
        await asyncio.sleep(0.02)
    with path.open("rb") as file:
        file.seek(start)
        text = file.read(_LENGTH).decode("utf-8", "replace")
    os.truncate(path, 0)  # it is opened for appending there: the next one begins at 0
    return text


def parse_dump(text: str) -> list[Place]:
    """The frames of the current thread in what faulthandler wrote, innermost first."""
    found: list[Place] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(("Thread ", "Current thread ", "Stack ")):
            inside = line.startswith(("Current thread ", "Stack "))
        elif inside and (match := _FRAME.match(line)):
            number = int(match[2]) if match[2].isdigit() else 0
            found.append(Place(match[1], number, match[3]))
    return found
