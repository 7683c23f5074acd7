"""The stack of a process that cannot answer, by a faulthandler signal; asked by ``stack_dump.py``.

Rules: the descriptor is opened beforehand, so a process out of descriptors, or one whose
interpreter lock is held by C code, still writes its stack.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path

from apihour.ipc.runtime import Runtime

__all__ = ["STACK_SIGNAL", "register", "stack_path", "unregister"]

STACK_SIGNAL = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else int(signal.SIGIO)
"""Makes a worker write the stack of every thread to :func:`stack_path`.

A real-time signal, which nothing else uses; macOS has none.
"""


def stack_path(runtime: Runtime, pid: int) -> Path:
    """Where the worker of that pid writes its stack."""
    return runtime.path / f"worker.{pid}.stack"


def register(runtime: Runtime, pid: int) -> int:
    """In the worker: answer STACK_SIGNAL from now on; returns the descriptor to keep open."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(stack_path(runtime, pid), flags, 0o600)
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=True, chain=False)
    return fd


def unregister(runtime: Runtime, pid: int, fd: int) -> None:
    """In the worker: answer no more, and leave nothing behind."""
    faulthandler.unregister(STACK_SIGNAL)
    os.close(fd)
    stack_path(runtime, pid).unlink(missing_ok=True)
