"""Unix sockets as binds: their place in the file system, or none (abstract ones, unix(7)).

Rule: a path that answers is in use; one that does not is replaced; anything else in its place is
left alone.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from apihour.ipc.giving import give

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress

__all__ = ["open_unix", "see_room"]


def open_unix(address: BindAddress, umask: int, owner: tuple[int, int] | None) -> socket.socket:
    """A bound socket; `owner` gets its file. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not address.is_path:
            sock.bind("\0" + address.host[1:])
            return sock
        _make_room(address.host)
        # Narrow first: between bind and chmod nobody else may connect.
        before = os.umask(0o177 if address.mode is not None else umask)
        try:
            sock.bind(address.host)
        finally:
            os.umask(before)
        if owner is not None:
            give(address.host, owner)
        if address.mode is not None:
            os.chmod(address.host, address.mode)
    except BaseException:
        sock.close()
        raise
    return sock


def see_room(path: str) -> bool:
    """Whether a socket has that path; OSError when something else has."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no socket"
        raise OSError(errno.EEXIST, f"the path is {kind}; expected a socket or nothing")
    return True


def _make_room(path: str) -> None:
    if not see_room(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            return
        else:
            raise OSError(errno.EADDRINUSE, "address in use, another process answers there")
