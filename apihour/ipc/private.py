"""Names that gunicorn and the standard library keep private and the core needs.

Each stands here with the reason, and ``tests/apihour/test_private.py`` fails clearly when a
release moves one.
"""

from __future__ import annotations

import contextvars
import socket
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING

from gunicorn.util import _setproctitle as set_process_title

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import Process

__all__ = ["accept_descriptor", "context_of", "pool_processes", "set_process_title",
           "shrink_tls_buffers"]


def accept_descriptor(sock: socket.socket) -> tuple[int, object]:
    """Accept one connection as (descriptor, peer address).

    ``socket.accept()`` makes a plain socket object first; the table needs one of its own
    class, and making both costs as much as the accept itself.
    """
    accepted: tuple[int, object] = sock._accept()  # type: ignore[attr-defined]
    return accepted


def context_of(callback: object) -> contextvars.Context | None:
    """The context of an asyncio handle or task, where it can be asked.

    Python 3.12 has ``get_context()``; before it the exception handler is called outside.
    """
    get = getattr(callback, "get_context", None)
    found = get() if callable(get) else getattr(callback, "_context", None)
    return found if isinstance(found, contextvars.Context) else None


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
