"""What registers SSH with apihour (entry point ``ssh``).

Rules:

- ``accepts`` imports nothing: while asyncssh was never imported, no object is of it.
"""

from __future__ import annotations

import sys
from typing import Any

from apihour_ssh.server import SSHServer
from apihour_ssh.shell import Shell

__all__ = ["plugin"]


def _is_server_class(obj: object) -> bool:
    base = getattr(sys.modules.get("asyncssh"), "SSHServer", None)
    return isinstance(obj, type) and isinstance(base, type) and issubclass(obj, base)


class _SSH:
    """SSH on stream binds, and the shell that the console serves."""

    name = "ssh"
    describes = "asyncssh.SSHServer subclass, apihour_ssh.SSHServer, apihour_ssh.Shell"

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is one of them."""
        if kind != "stream":
            return False
        return isinstance(obj, (SSHServer, Shell)) or _is_server_class(obj)

    def adapt(self, obj: Any, kind: str) -> SSHServer | Shell:
        """Return `obj` as a server. Raises ImportError naming asyncssh when it is missing."""
        return obj if isinstance(obj, (SSHServer, Shell)) else SSHServer(obj)


plugin = _SSH()
