"""Sockets that this process was started with: ``fd://N``, and those that systemd passed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

from apihour.errors import BindError

__all__ = ["inherit", "passed", "systemd_sockets"]

_FIRST_SYSTEMD_FD = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


def systemd_sockets(environ: Mapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """The sockets systemd passed to this process, by their names (sd_listen_fds(3))."""
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    listed = environ.get("LISTEN_FDS", "0")
    if not listed.isdigit():
        raise BindError(f"LISTEN_FDS={listed!r}: expected the number of sockets passed")
    count = int(listed)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    for offset in range(count):
        sock = socket.socket(fileno=_FIRST_SYSTEMD_FD + offset)
        sock.set_inheritable(False)
        name = names[offset] if offset < len(names) and names[offset] else "unknown"
        found.setdefault(name, []).append(sock)
    return found


def inherit(fd: int) -> socket.socket:
    """A duplicate of the socket that has that number. Raises OSError."""
    try:
        return socket.socket(fileno=os.dup(fd))
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            raise OSError(
                error.errno, "the descriptor is open but is no socket; expected one") from error
        raise


def passed(name: str, named: Mapping[str, list[socket.socket]]) -> socket.socket:
    """A duplicate of the socket that systemd passed under that name. Raises OSError."""
    if name not in named:
        raise OSError(0, "systemd passed no socket of that name; it passed "
                         f"{sorted(named) or 'none'}")
    return named[name][0].dup()
