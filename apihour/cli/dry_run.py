"""What a start needs of the system's users and directories, looked at without starting.

Rule: nothing is made, and nothing that serves is disturbed.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from gunicorn import util

from apihour.bind.addresses import BindAddress
from apihour.bind.listeners import open_listener
from apihour.bind.refused_bind import refusal
from apihour.bind.unix_sockets import see_room
from apihour.config.file_checks import see_pidfile
from apihour.config.owner import refuse_owner
from apihour.errors import BindError
from apihour.ipc.runtime import base_directory

__all__ = ["see_files", "see_owner", "try_bind"]


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


def try_bind(name: str, address: BindAddress) -> bool:
    """Whether an address could be bound now; False when it is in use.

    A TCP or UDP address is bound for a moment, and nothing listens on it; of a unix socket's
    path it is looked what stands in its way. A service manager's sockets are not there to be
    seen. Raises BindError for what no wait would mend.
    """
    if address.family in ("fd", "systemd"):
        return True
    if address.is_path:
        try:
            _see_directory(address.host)
            see_room(address.host)
        except OSError as error:
            raise refusal(name, address, error) from error
        return True
    try:
        open_listener(name, address, {}, 0, None).close()
    except BindError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def _see_directory(path: str) -> None:
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
