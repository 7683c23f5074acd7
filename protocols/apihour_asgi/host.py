"""The ASGI application behind a server of HTTP: what all its connections share.

Rules:

- The server of HTTP calls ``start``, ``connect`` and ``stop``, and what ``connect`` returns
  (``connected.py``); it is the one that takes any object of that shape for an application
  (``apihour_http.hosting``). So neither package imports the other.
- Requests get a copy of the lifespan's state; the application's tasks are kept until they end.
"""

from __future__ import annotations

import asyncio
import logging
from email.utils import formatdate
from time import time
from typing import Any

from apihour_asgi.connected import ASGIConnection
from apihour_asgi.lifespan import Application, Lifespan, Mode

__all__ = ["ASGIHost"]


class ASGIHost:
    """Runs one application in this loop, and connects it to connections."""

    def __init__(self, app: Application, lifespan: Mode, root_path: str, websockets: Any,
                 speaks: str = "ASGI", mounted: str = "") -> None:
        self.app = app
        self.speaks = speaks
        self.root_path = root_path + mounted
        self.added = root_path
        """What is put before targets: a proxy has taken it away. A mount's path is in them."""
        self._websockets = websockets
        self._warned = False
        self.logger = logging.getLogger("apihour_asgi")
        self.tasks: set[Any] = set()
        self._mode: Mode = lifespan
        self._lifespan: Lifespan | None = None
        self.state: dict[str, Any] = {}
        self._second = 0
        self._date = b""

    async def start(self, container: Any, logger: logging.Logger, debug: bool) -> None:
        """Run the application's startup. Raises what it raises, or LifespanError."""
        self.logger = logger
        lifespan = Lifespan(self.app, self._mode, logger)
        await lifespan.startup()
        self._lifespan = lifespan
        self.state = lifespan.state

    def connect(self, lane: Any) -> ASGIConnection:
        """The application's side of one connection."""
        return ASGIConnection(self, lane)

    def speaks_websocket(self) -> Any:
        """How WebSockets are spoken; None, and one warning, where the library is missing."""
        if self._websockets is None and not self._warned:
            self._warned = True
            self.logger.warning("a client asks for a WebSocket, and websockets cannot be imported: "
                                "pip install 'apihour[asgi]'; it is answered as any request")
        return self._websockets

    async def wait_idle(self) -> None:
        """Return when no task of the application is left: those behind an answer too."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def stop(self) -> None:
        """Cancel what is running, then run the shutdown. Raises what that raises."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.shutdown()

    def date(self) -> bytes:
        """The Date field of this second (RFC 9110 6.6.1)."""
        now = int(time())
        if now != self._second:
            self._second = now
            self._date = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._date
