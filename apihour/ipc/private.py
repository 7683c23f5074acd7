"""Names that gunicorn and the standard library keep private and the core needs.

Each stands here with the reason, and ``tests/apihour/ipc/test_private.py`` fails clearly when a
release moves one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import logging
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from gunicorn.util import _setproctitle as set_process_title

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import Process

__all__ = ["accept_descriptor", "awaiters", "context_of", "is_gunicorns", "opened_again",
           "parser_options", "pool_processes", "set_process_title", "shrink_tls_buffers"]


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


def is_gunicorns(handler: logging.Handler) -> bool:
    """Whether gunicorn made this handler of its logs, or a logging configuration did.

    Those of a configuration have formatters that are their owner's business.
    """
    return bool(getattr(handler, "_gunicorn", False))


def pool_processes(pool: ProcessPoolExecutor) -> list[Process]:
    """The processes of a pool that runs.

    One that computes for minutes would be waited for by the interpreter's exit; only Python
    3.14 has ``terminate_workers()``.
    """
    return list((pool._processes or {}).values())  # none once it is shut down


def awaiters(future: asyncio.Future[Any], deep: int = 3) -> Iterator[asyncio.Task[Any]]:
    """The tasks that wait for `future`: directly, in a TaskGroup, by gather() or wait().

    Which task waits for which is written nowhere else than in the callbacks of the one waited
    for; only Python 3.14 has ``asyncio.future_add_to_awaited_by()``.
    """
    for entry in getattr(future, "_callbacks", None) or ():
        callback = entry[0] if isinstance(entry, tuple) else entry
        owner = getattr(callback, "__self__", None)
        parent = getattr(owner, "_parent_task", None)
        if isinstance(owner, asyncio.Task):
            yield owner
        elif isinstance(parent, asyncio.Task):
            yield parent
        elif deep:
            for cell in getattr(callback, "__closure__", None) or ():
                if isinstance(cell.cell_contents, asyncio.Future):
                    yield from awaiters(cell.cell_contents, deep - 1)


def parser_options(parser: argparse.ArgumentParser) -> list[Any]:
    """The options of a parser that gunicorn has filled: it keeps no other list of them."""
    return parser._actions


def opened_again(handler: logging.FileHandler) -> TextIOWrapper:
    """The file of a handler, opened anew as the handler would: what it writes to stays open.

    Raises OSError. ``close()`` and the next record would lose the old file when the new one
    cannot be opened.
    """
    return handler._open()
