"""Whose the workers are: ``--user`` and ``--group``, and being refused them."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from gunicorn import util

from apihour.errors import ConfigurationError

__all__ = ["become_owner", "refuse_owner"]


def become_owner(cfg: Any) -> None:
    """Become the user and group of the configuration.

    Raises ConfigurationError with one line when the system does not let this process.
    """
    try:
        util.set_owner_process(cfg.uid, cfg.gid, initgroups=cfg.initgroups)
    except OSError as error:
        refuse_owner(cfg, error.errno or 0)


def refuse_owner(cfg: Any, code: int) -> NoReturn:
    """Raise ConfigurationError: the system said `code` when that owner was asked for."""
    raise ConfigurationError(
        f"--user {cfg.uid} --group {cfg.gid}: {os.strerror(code)} for uid {os.geteuid()}; expected "
        "a start by root, or neither option")
