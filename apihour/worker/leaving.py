"""How a worker leaves: it stops accepting, says goodbye, drains to its deadline, cleans up.

Rules:

- Accepting stops first; what is connected has until the deadline, unless told to quit.
- Servers and container are stopped after a partial start, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from apihour.app.hooks import call_hook
from apihour.ipc.scoreboard import Figure, WorkerState
from apihour.worker.servers import ServerSet, WorkerHost
from apihour.worker.serving import Serving

__all__ = ["Leaving"]

_HEED = 0.5  # seconds a goodbye has to end once its drain is over
_ORPHAN_BIND = 0.5  # seconds that answers to datagrams may take once the arbiter is gone


class Leaving:
    """Whether the worker was told to leave, and how it does.

    `retiring` is set once it is to leave, `quitting` when that is to be at once. An orphan's
    arbiter is gone.
    """

    def __init__(self, host: WorkerHost, servers: ServerSet, retiring: asyncio.Event) -> None:
        self.retiring = retiring
        self.quitting = asyncio.Event()
        self.is_orphan = False
        self._host = host
        self._servers = servers

    def quit(self) -> None:
        """Leave at once."""
        self.retiring.set()
        self.quitting.set()

    async def retire(self) -> None:
        """Stop accepting, say goodbye, wait until the last connection is gone or the deadline."""
        host, row = self._host, self._host.row
        row.accepting = 0.0
        row.state = WorkerState.DRAINING
        timeout = float(host.cfg.graceful_timeout)
        row.deadline = time.monotonic() + timeout
        row.drain_total = row.left = len(host.connections)
        quick = self.quitting.is_set()
        last = bool(host.scoreboard.figure(Figure.UNREADY)) and not quick
        for serving in self._servers.own():
            serving.stop_accepting(last)
        if not quick:
            await self._drain_all(timeout)

    async def _drain_all(self, timeout: float) -> None:
        once, deadline = self._servers.once, self._host.loop.time() + timeout
        self._host.container.retire_made()
        goodbyes: list[Awaitable[Any]] = [
            self._drain(serving, deadline) for serving in self._servers.own()
        ]
        if self._host.jobs is not None:
            goodbyes.append(self._host.jobs.drain())
        draining = asyncio.gather(
            *goodbyes,
            *(self._servers.only.end(name, True) for name in once
              if name not in self._servers.all),
            call_hook(self._host.container, "shutdown"),
            return_exceptions=True
        )
        quitting = asyncio.ensure_future(self.quitting.wait())
        waiting: set[asyncio.Future[Any]] = {draining, quitting}
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        quitting.cancel()
        if draining.done():
            for outcome in draining.result():
                if isinstance(outcome, Exception):
                    self._host.log.error("Worker %s: %s", self._host.name, outcome)
        else:
            await self._cut_short(draining)

    async def _cut_short(self, draining: asyncio.Future[Any]) -> None:
        draining.cancel()
        # Waited for: what is cancelled unheard is reported as an exception nobody took.
        await asyncio.wait({draining}, timeout=_HEED)
        if draining.done() and not draining.cancelled():
            draining.exception()
        self._host.log.warning(
            "Worker %s: %d connections left at the end of its drain, closing them",
            self._host.name, len(self._host.connections),
        )

    async def _drain(self, serving: Serving, deadline: float) -> None:
        if self.is_orphan and serving.is_datagram:
            # Until it is closed nobody else can bind the address, and a new daemon waits.
            deadline = min(deadline, self._host.loop.time() + _ORPHAN_BIND)
        exclusive = self._servers.once.get(serving.name)
        if exclusive is not None:
            await self._servers.only.end(serving.name, not exclusive)
            if not serving.started:
                return  # it is in another worker
        try:
            await serving.drain(deadline)
        except Exception:
            self._host.log.exception("server %r: its drain failed", serving.name)
        if exclusive:
            await serving.stop()
            self._servers.only.release(serving.name)

    async def leave(self) -> None:
        """Stop the servers and the container, also after a partial start."""
        host = self._host
        host.row.state = WorkerState.EXITING
        host.row.accepting = 0.0
        if host.jobs is not None:
            await host.jobs.close()
        for name in self._servers.once:
            await self._servers.only.end(name, False)
        for serving in self._servers.own():
            if serving.started:
                try:
                    await serving.stop()
                except Exception:
                    host.log.exception("server %r: its stop failed", serving.name)
        for conn in host.connections:
            conn.close("worker leaves")
        await asyncio.sleep(0)  # aborted transports say so in the next turn
        if host.container is None:
            return
        try:
            await call_hook(host.container, "cleanup")
        except Exception as error:
            host.log.error("Worker %s: %s", host.name, error)
        await host.container.close_made()
