"""A WSGI application under a path of a server of HTTP: its threads, and ASGI's host of it."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from apihour_wsgi.bridge import Bridge

__all__ = ["MountedWSGI"]


class MountedWSGI:
    """Runs `bridge`; `host` is what connects it, of the plugin that speaks ASGI."""

    def __init__(self, bridge: Bridge, host: Any) -> None:
        self._bridge = bridge
        self._host = host
        self.connect = host.connect
        """The application's side of one connection."""

    async def start(self, container: Any, logger: logging.Logger, debug: bool) -> None:
        """Get ready; threads are made when they are first needed."""
        self._bridge.start(container, logger)
        await self._host.start(container, logger, debug)

    async def wait_idle(self) -> None:
        """Return when no call is under way."""
        await self._host.wait_idle()

    async def stop(self) -> None:
        """Cancel what is running. Threads at work end when their calls do."""
        with contextlib.ExitStack() as last:
            last.callback(self._bridge.stop)
            await self._host.stop()
