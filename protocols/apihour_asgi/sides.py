"""What an exchange needs of its connection and of its application: the two sides of it.

Rule: exchanges, connections and hosts know one another by these shapes, so that each module
imports downwards only.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from apihour_asgi.lifespan import Application

__all__ = ["ApplicationSide", "ConnectionSide", "RequestHead"]

RequestHead = tuple[bytes, bytes, list[tuple[bytes, bytes]], bool]
"""What a head says: method, target, fields, and whether it speaks HTTP/1.1."""


class ApplicationSide(Protocol):
    """The application, and what all its connections share."""

    app: Application
    root_path: str
    added: str
    logger: logging.Logger
    speaks: str
    """What the log calls the application's kind: ``ASGI``."""
    state: dict[str, Any]
    """What the lifespan keeps for requests."""
    tasks: set[Any]
    """Calls of the application under way."""

    def speaks_websocket(self) -> Any:
        """How WebSockets are spoken; None where the library is missing."""

    def date(self) -> bytes:
        """The Date field of this second (RFC 9110 6.6.1)."""


class ConnectionSide(Protocol):
    """One connection, as the exchanges on it see it."""

    host: ApplicationSide
    lane: Any
    """The server of HTTP's own connection: what it offers is said in ``apihour_http.hosting``."""

    declared: Any
    """What applications declare, encoded for a stream of HTTP/2; None on HTTP/1."""

    async def writable(self) -> None:
        """Wait until the client reads on, or is gone."""
