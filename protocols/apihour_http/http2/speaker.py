"""Who takes a connection that begins as HTTP/2 does: this package, where its extra is installed.

Rule: nothing of HTTP/2 is imported before the first such connection.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["is_installed", "speaker"]

_HINT = "HTTP/2 needs hpack, which cannot be imported: pip install 'apihour[http2]'"


def is_installed() -> bool:
    """Whether HTTP/2 can be spoken."""
    return importlib.util.find_spec("hpack") is not None


def speaker(
    wanted: bool | None, logger: logging.Logger,
) -> Callable[[Any, Any], Any] | None:
    """What makes the protocol of such a connection, given the service and the host's row.

    It returns None, and says once why, where the extra is missing. None when HTTP/2 is not
    wanted; raises ImportError when it is, by ``True``, and cannot be.
    """
    if wanted is False:
        return None
    if is_installed():
        return _connection
    if wanted:
        raise ImportError(f"option http2=True: {_HINT}")
    return _Missing(logger)


def _connection(service: Any, conn: Any) -> Any:
    from apihour_http.http2.multiplexer import HTTP2Connection

    return HTTP2Connection(service, conn)


class _Missing:
    """Says once that the extra is missing."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger: logging.Logger | None = logger

    def __call__(self, service: Any, conn: Any) -> None:
        if self._logger is not None:
            self._logger.warning("a client speaks HTTP/2. %s", _HINT)
            self._logger = None
