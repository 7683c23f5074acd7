"""Where Python and asyncio tell of failures that reach nobody; ``crashes.py`` names and logs them.

Rule: that is read at the first failure, and nothing is paid for until then.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apihour.worker.crashes import CrashLog

__all__ = ["Failures"]


class Failures:
    """Those of one worker's loop, threads and finalizers."""

    def __init__(self, worker: Any, log: logging.Logger) -> None:
        self._worker = worker
        self._log = log
        self._made: CrashLog | None = None

    def install_in_process(self) -> None:
        """Watch threads, finalizers and warnings, which would write to stderr."""
        threading.excepthook = lambda args: self._crashes().in_thread(args)
        sys.unraisablehook = lambda args: self._crashes().in_finalizer(args)
        warnings.showwarning = _show_warning

    def install_in_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop`, unless it has a handler already."""
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(lambda loop, context: self._crashes().in_loop(loop, context))

    def flush(self) -> None:
        """Say what was not told yet."""
        if self._made is not None:
            self._made.flush()

    def _crashes(self) -> CrashLog:
        if self._made is None:
            from apihour.worker.crashes import CrashLog

            self._made = CrashLog(self._worker, self._log)
        return self._made


def _show_warning(*args: Any, **options: Any) -> None:
    from apihour.config.failures import show_warning

    show_warning(*args, **options)
