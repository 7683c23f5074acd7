"""Whose the workers are: ``--user`` and ``--group``, and being refused them."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from gunicorn import util

from apihour.errors import ConfigurationError

__all__ = ["become_owner", "see_owner"]


def become_owner(cfg: Any) -> None:
    """Become the user and group of the configuration.

    Raises ConfigurationError with one line when the system does not let this process.
    """
    try:
        util.set_owner_process(cfg.uid, cfg.gid, initgroups=cfg.initgroups)
    except OSError as error:
        _refuse(cfg, error.errno or 0)


def see_owner(cfg: Any) -> None:
    """See in a child that dies of it whether :func:`become_owner` would do; raises the same.

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
        _refuse(cfg, status)


def _refuse(cfg: Any, code: int) -> NoReturn:
    raise ConfigurationError(
        f"--user {cfg.uid} --group {cfg.gid}: {os.strerror(code)} for uid {os.geteuid()}; expected "
        "a start by root, or neither option")
