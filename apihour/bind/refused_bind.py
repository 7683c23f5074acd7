"""Why a bind could not be opened: what the system said, and what was expected.

Rule: read where the system has refused one.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from apihour.errors import BindError

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress

__all__ = ["refusal"]

_REASONS = {
    errno.EADDRNOTAVAIL: "expected an address of this machine",
    errno.EBADF: "no descriptor of that number is open; expected an inherited socket",
    errno.ENOENT: "no such directory; expected one that exists",
    socket.EAI_NONAME: "the host is not known; expected a name that resolves, or an address",
    socket.EAI_AGAIN: "no name server answers; expected a name that resolves, or an address",
}


def refusal(name: str, address: BindAddress, error: OSError | ValueError) -> BindError:
    """What the system said of a bind, as one line that says what was expected."""
    if isinstance(error, ValueError):  # a host that IDNA refuses, a path with a NUL
        return BindError(f"{_title(name)}{address}: the system cannot take it ({error}); "
                         "expected a host or a path")
    reason = error.strerror or str(error)
    if error.errno == errno.EACCES:
        reason = (f"permission denied for uid {os.geteuid()}; expected a "
                  + ("directory it may write to" if address.is_path else "port it may use"))
    elif error.errno == errno.EADDRINUSE:
        reason = f"address in use; expected a free one: {_option(name)}ADDRESS"
    elif error.errno in _REASONS:
        reason = _REASONS[error.errno]
    return BindError(f"{_title(name)}{address}: {reason}")


def _title(name: str) -> str:
    """What declares a bind: those of the daemon itself have an option each."""
    return _option(name) if name.startswith("@") else f"bind {_named(name)}"


def _option(name: str) -> str:
    """What is typed before an address to have that bind there."""
    return f"--{name[1:]} " if name.startswith("@") else f"-b {_named(name)}"


def _named(name: str) -> str:
    """The name before an address; one that is a number was given without."""
    return "" if name.isdigit() else f"{name}="
