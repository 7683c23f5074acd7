"""What a start needs of the system's users and directories, looked at without starting.

Rule: nothing is made, and nothing that serves is disturbed.
"""

from __future__ import annotations

import os
from typing import Any

from gunicorn import util

from apihour.config.file_checks import see_pidfile
from apihour.config.owner import refuse_owner
from apihour.ipc.runtime import base_directory

__all__ = ["see_files", "see_owner"]


def see_files(cfg: Any) -> None:
    """Refuse an owner, a pid file or a runtime directory that could not be had.

    Raises ConfigurationError with one line, as a start does.
    """
    base_directory(cfg.uid)
    see_owner(cfg)
    see_pidfile(cfg)


def see_owner(cfg: Any) -> None:
    """See in a child that dies of it whether the workers' owner can be had.

    Raises ConfigurationError as :func:`~apihour.config.owner.become_owner` does.
    By trying: a capability lets a process that is not root, and the lack of one stops root
    (capabilities(7)).
    """
    if (cfg.uid, cfg.gid) == (os.geteuid(), os.getegid()):
        return
    child = os.fork()
    if child == 0:
        status = 255
        try:
            util.set_owner_process(cfg.uid, cfg.gid, initgroups=cfg.initgroups)
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        refuse_owner(cfg, status)
