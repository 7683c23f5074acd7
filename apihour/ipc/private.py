"""Names that gunicorn and the standard library keep private and the core needs.

Each stands here with the reason, and ``tests/apihour/ipc/test_private.py`` fails clearly when a
release moves one.
"""

from __future__ import annotations

import argparse
import contextvars
import logging
import socket
from io import TextIOWrapper
from typing import Any

from gunicorn.util import _setproctitle as set_process_title

__all__ = ["accept_descriptor", "context_of", "is_gunicorns", "opened_again", "parser_options",
           "set_process_title"]


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


def is_gunicorns(handler: logging.Handler) -> bool:
    """Whether gunicorn made this handler of its logs, or a logging configuration did.

    Those of a configuration have formatters that are their owner's business.
    """
    return bool(getattr(handler, "_gunicorn", False))


def parser_options(parser: argparse.ArgumentParser) -> list[Any]:
    """The options of a parser that gunicorn has filled: it keeps no other list of them."""
    return parser._actions


def opened_again(handler: logging.FileHandler) -> TextIOWrapper:
    """The file of a handler, opened anew as the handler would: what it writes to stays open.

    Raises OSError. ``close()`` and the next record would lose the old file when the new one
    cannot be opened.
    """
    return handler._open()
