"""What a start needs of the file system, looked at without starting.

Rule: nothing is made, and nothing that serves is disturbed.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from apihour.errors import ConfigurationError

__all__ = ["see_pidfile"]


def see_pidfile(cfg: Any) -> None:
    """Refuse a pid file that could not be written. Raises ConfigurationError with one line."""
    if cfg.pidfile is None:
        return
    directory = os.path.dirname(cfg.pidfile) or "."
    problem = 0
    if os.path.isdir(cfg.pidfile):
        problem = errno.EISDIR
    elif not os.path.isdir(directory):
        problem = errno.ENOENT
    elif not os.access(directory, os.W_OK | os.X_OK):
        problem = errno.EACCES
    if problem:
        raise ConfigurationError(f"--pid {cfg.pidfile!r}: {os.strerror(problem)}; "
                                 "expected a file that can be written")
