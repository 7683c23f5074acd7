"""Names that gunicorn and the standard library keep private and the core needs.

Each stands here with the reason, and ``tests/apihour/test_private.py`` fails clearly when a
release moves one.
"""

from __future__ import annotations

import socket

from gunicorn.util import _setproctitle as set_process_title

__all__ = ["accept_descriptor", "set_process_title"]


def accept_descriptor(sock: socket.socket) -> tuple[int, object]:
    """Accept one connection as (descriptor, peer address).

    ``socket.accept()`` makes a plain socket object first; the table needs one of its own
    class, and making both costs as much as the accept itself.
    """
    accepted: tuple[int, object] = sock._accept()  # type: ignore[attr-defined]
    return accepted
