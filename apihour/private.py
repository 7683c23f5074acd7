"""Names that gunicorn and the standard library keep private and the core needs.

Each stands here with the reason, and ``tests/apihour/test_private.py`` fails clearly when a
release moves one.
"""

from __future__ import annotations

import socket
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING

from gunicorn.util import _setproctitle as set_process_title

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import Process

__all__ = ["accept_descriptor", "pool_processes", "set_process_title", "shrink_tls_buffers"]


def accept_descriptor(sock: socket.socket) -> tuple[int, object]:
    """Accept one connection as (descriptor, peer address).

    ``socket.accept()`` makes a plain socket object first; the table needs one of its own
    class, and making both costs as much as the accept itself.
    """
    accepted: tuple[int, object] = sock._accept()  # type: ignore[attr-defined]
    return accepted


def shrink_tls_buffers(size: int) -> None:
    """Let asyncio's TLS connections of this process have a read buffer of `size` bytes.

    Each allocates and touches 256 KiB, before its handshake: a thousand clients that only
    connect would cost 300 MB. uvloop's cost 50 kB and are not meant here.
    """
    SSLProtocol.max_size = size


def pool_processes(pool: ProcessPoolExecutor) -> list[Process]:
    """The processes of a pool that runs.

    One that computes for minutes would be waited for by the interpreter's exit; only Python
    3.14 has ``terminate_workers()``.
    """
    return list((pool._processes or {}).values())  # none once it is shut down
