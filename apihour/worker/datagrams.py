"""Datagram sockets of one server: who reads them, and for how long.

Rules:

- The socket of a slot is read by one worker at a time, so that what one client sends is always read
  by the same one. In a reload the worker before reads until it has drained, then the next: the
  kernel keeps meanwhile what comes.
- Whoever holds the slot's lock is the one. The kernel gives it back when its process ends.
- A protocol is made when the worker starts, so that one that cannot be made refuses the start.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apihour.app.hook_faults import cannot_start
from apihour.config.rootlog import SERVER

if TYPE_CHECKING:
    from apihour.bind.listeners import Listener
    from apihour.single.singles import Lock

__all__ = ["DatagramSockets"]

_LOOK_EVERY = 0.02  # seconds between two looks whether the worker before has gone


class DatagramSockets:
    """Those that this worker reads, or waits for, once it is prepared."""

    _directory: Path
    _log: logging.Logger

    def __init__(self, name: str, server: Any) -> None:
        self._name = name
        self._server = server
        self._transports: list[asyncio.DatagramTransport] = []
        self._locks: list[Lock] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def prepare(self, directory: Path, log: logging.Logger) -> None:
        """Say where the locks are, before anything is read."""
        self._directory, self._log = directory, log

    async def read(self, listener: Listener) -> None:
        """Read that socket, from now on or as soon as nobody else does. Raises HookError."""
        try:
            protocol = self._server.datagram()
        except Exception as error:
            raise cannot_start(self._name, self._server, error) from error
        lock = self._lock_of(listener)
        if lock is None or self._take(lock):
            await self._open(listener, protocol)
            return
        waiting = asyncio.ensure_future(self._wait(listener, protocol, lock))
        self._waiting.add(waiting)
        waiting.add_done_callback(self._ended)

    def _lock_of(self, listener: Listener) -> Lock | None:
        if not listener.slot:
            return None
        from apihour.single.singles import Lock  # read where workers have sockets of their own

        port = listener.getsockname()[1]
        lock = Lock(self._directory / f"{listener.name}.{port}.{listener.slot}.lock")
        self._locks.append(lock)
        return lock

    def _take(self, lock: Lock) -> bool:
        try:
            return lock.take()
        except OSError as error:  # better two readers than none
            self._log.error("server %r: no lock for its datagrams: %s: %s", self._name, lock.path,
                            error.strerror)
            return True

    async def _wait(self, listener: Listener, protocol: Any, lock: Lock) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._take(lock):
                break
        await self._open(listener, protocol)

    def _ended(self, waiting: asyncio.Task[None]) -> None:
        self._waiting.discard(waiting)
        if not waiting.cancelled() and (error := waiting.exception()) is not None:
            self._log.error("server %r: its datagrams are not read: %s", self._name, error)

    async def _open(self, listener: Listener, protocol: Any) -> None:
        # A duplicate: closing the transport must not close what the arbiter shares.
        sock = listener.sock.dup()
        token = SERVER.set(self._name)  # what the loop reads it by has this context
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: protocol, sock=sock)
        except Exception as error:  # its connection_made()
            raise cannot_start(self._name, self._server, error) from error
        finally:
            SERVER.reset(token)
        self._transports.append(transport)

    def drives(self, protocol: object) -> bool:
        """Whether that is the protocol of one of them."""
        return any(transport.get_protocol() is protocol for transport in self._transports)

    def leave(self) -> None:
        """Wait for no socket any more; those that are read, are until :meth:`close`."""
        for waiting in self._waiting:
            waiting.cancel()

    def close(self) -> None:
        """Read no more; the next worker may."""
        self.leave()
        for transport in self._transports:
            transport.close()
        for lock in self._locks:
            lock.release()
