"""The pid file of ``--pid``."""

from __future__ import annotations

import os
from typing import Any

from gunicorn.pidfile import Pidfile

from apihour.config.file_checks import see_pidfile
from apihour.errors import ApihourError

__all__ = ["create_pidfile", "replace_pidfile"]


def create_pidfile(cfg: Any, pid: int) -> Pidfile:
    """Make it at a start. Raises ApihourError, also when it is another daemon's."""
    see_pidfile(cfg)
    pidfile = Pidfile(cfg.pidfile)
    try:
        pidfile.create(pid)
    except OSError as error:
        raise ApihourError(f"--pid {cfg.pidfile!r}: {error.strerror}; expected a file that can be "
                           "written") from error
    except RuntimeError as error:  # another daemon's
        raise ApihourError(f"--pid {cfg.pidfile!r}: {error}") from error
    return pidfile


def replace_pidfile(cfg: Any, pid: int) -> Pidfile:
    """Replace it after an upgrade, whoever it named before."""
    pidfile = Pidfile(cfg.pidfile)
    temporary = f"{cfg.pidfile}.{pid}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{pid}\n")
    os.chmod(temporary, 0o644)
    os.rename(temporary, cfg.pidfile)
    pidfile.pid = pid
    return pidfile
