"""What runs in one worker of the daemon only: servers, and jobs of the container.

Rules:

- Whoever holds a lock is the one. The kernel gives it back when its process ends, however it
  does, so it moves to another worker by itself; a pid or a heartbeat would prove nothing.
- The lock is one of fcntl(2): a process that the application forks does not inherit it.
- A worker of an old generation takes nothing more, nor does one that retires.
- What is ``single`` goes on elsewhere as soon as it accepts nothing more here; what is
  ``exclusive`` only when its last connection is gone: there are never two.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from apihour.bind.addresses import BindAddress
from apihour.errors import ConfigurationError
from apihour.jobs.lease import LeaseGoneError
from apihour.single.single_lease import SingleLease, lease_of

__all__ = ["Lock", "Singles", "see_singles"]

_LOOK_EVERY = 0.05  # seconds between two tries to become the one, and two looks at the lock
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0  # seconds until what failed is begun again, doubling
_END_TIME = 5.0  # seconds a job has to end once it is cancelled


def see_singles(container: Any, servers: Mapping[str, Sequence[BindAddress]]) -> dict[str, bool]:
    """What of `container` runs once, by name: whether two at once are excluded.

    `servers` has the binds of each. Raises ConfigurationError naming what is wrong.
    """
    found: dict[str, bool] = {}
    for attribute in ("single", "exclusive"):
        names = getattr(container, attribute, ())
        where = f"{type(container).__module__}.{type(container).__qualname__}.{attribute}"
        if isinstance(names, str | bytes) or not isinstance(names, Iterable):
            raise ConfigurationError(f"{where}: {names!r}; expected a set of names")
        for name in names:
            if name not in servers and not inspect.iscoroutinefunction(
                    getattr(container, str(name), None)):
                raise ConfigurationError(
                    f"{where}: {name!r}; expected the name of a server "
                    f"({', '.join(servers) or 'there is none'}) or of an async method")
            if any(address.reuse_port for address in servers.get(name, ())):
                raise ConfigurationError(
                    f"{where}: server {name!r} has a bind with reuse_port, which is for several "
                    "workers; expected one without")
            found[name] = attribute == "exclusive"
    return found


class Lock:
    """A lock of the whole daemon, held by one process at most."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self.is_held = False

    def take(self) -> bool:
        """Whether it is ours now. Raises OSError when its file cannot be made."""
        if self._fd < 0:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # either, by fcntl(2)
            return False
        self.is_held = self._is_in_place()
        if not self.is_held:
            self.release()
        return self.is_held

    def still(self) -> bool:
        """Whether it is ours still; the runtime directory may have vanished, and come again."""
        if not self._is_in_place():
            self.release()
            with contextlib.suppress(OSError):
                return self.take()
        return self.is_held

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def release(self) -> None:
        """Leave it to another."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.is_held = -1, False


class Singles:
    """What one worker does about those of its servers and jobs that run once."""

    def __init__(
        self, directory: Path, worker: str, log: logging.Logger, may_take: Callable[[], bool],
        leave: Callable[[], None],
    ) -> None:
        """`may_take`: whether this worker takes what is free; `leave` makes it retire."""
        self._directory = directory
        self._worker = worker
        self._log = log
        self._may_take = may_take
        self._leave = leave
        self._locks: dict[str, Lock] = {}
        self._leases: dict[str, SingleLease] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._said: set[str] = set()

    def watch(
        self, name: str, begin: Callable[[], Awaitable[Any]], lease: SingleLease | None = None
    ) -> None:
        """Call `begin` once this worker is the one; a job runs in it, a server accepts after.

        With a `lease` it is the one of all daemons that have the same store.
        """
        if lease is not None:
            self._leases[name] = lease
            begin = partial(lease.begin, begin)
        self._locks[name] = Lock(self._directory / f"{name}.lock")
        self._tasks[name] = asyncio.ensure_future(self._keep(name, begin))

    def watch_method(self, container: Any, name: str) -> None:
        """The same, for an async method of the container."""
        self.watch(name, getattr(container, name),
                   lease_of(container, name, self._worker, self._log))

    def is_here(self, name: str) -> bool:
        """Whether this worker is the one for it."""
        return name in self._locks and self._locks[name].is_held

    async def end(self, name: str) -> bool:
        """End its job, or do not try to become the one any more; the lock stays.

        Returns whether it has ended.
        """
        task = self._tasks.get(name)
        if task is None:
            return True
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_END_TIME)
        if task.done():
            if name in self._leases:
                await self._leases[name].release()
            return True
        self._log.error("Worker %s: %r has not ended %g s after it was cancelled", self._worker,
                        name, _END_TIME)
        return False

    def release(self, name: str) -> None:
        """Let another worker be the one."""
        if name in self._locks:
            self._locks[name].release()

    async def _keep(self, name: str, begin: Callable[[], Awaitable[Any]]) -> None:
        delay = _FIRST_RETRY
        while True:
            await self._become(name)
            self._log.info("Worker %s is the one for %r now", self._worker, name)
            since, began = time.monotonic(), asyncio.ensure_future(begin())
            keeping = (asyncio.ensure_future(self._leases[name].keep())
                       if name in self._leases else None)
            try:
                await self._hold(name, began, keeping)
            except LeaseGoneError as error:
                self._log.error("Worker %s: %s; next try in %g s", self._worker, error, delay)
            except Exception:
                if time.monotonic() - since > _LAST_RETRY:
                    delay = _FIRST_RETRY  # it had come up: this is a first failure again
                self._log.exception("Worker %s: %r failed; next try in %g s", self._worker, name,
                                    delay)
            finally:
                if keeping is not None:
                    keeping.cancel()
                if not began.done():
                    began.cancel()
                    await asyncio.wait({began})
                    self._say_end(name, began)
            if name in self._leases:
                await self._leases[name].release()
            self.release(name)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY)

    def _say_end(self, name: str, began: asyncio.Future[Any]) -> None:
        """Say what came of one that was cancelled, if it is more than that."""
        error = None if began.cancelled() else began.exception()
        if error is not None and not isinstance(error, LeaseGoneError):
            self._log.error("Worker %s: %r failed when it was cancelled", self._worker, name,
                            exc_info=error)

    async def _become(self, name: str) -> None:
        while True:
            if self._may_take():
                try:
                    if self._locks[name].take() and await self._has_lease(name):
                        return
                except OSError as error:
                    if name not in self._said:
                        self._said.add(name)
                        self._log.error("Worker %s: no lock for %r: %s: %s", self._worker, name,
                                        self._locks[name].path, error.strerror)
            await asyncio.sleep(_LOOK_EVERY)

    async def _has_lease(self, name: str) -> bool:
        """Whether no other daemon has it, or can; the lock is kept meanwhile by who may take it."""
        if name not in self._leases or await self._leases[name].take():
            return True
        if not self._may_take():
            self.release(name)
        return False

    async def _hold(
        self, name: str, began: asyncio.Future[Any], keeping: asyncio.Future[None] | None
    ) -> None:
        """Be the one; ends by the exception of what began or of its lease, or with the task."""
        while True:
            await asyncio.wait({began, keeping or began}, timeout=_LOOK_EVERY,
                               return_when=asyncio.FIRST_COMPLETED)
            if keeping is not None and keeping.done():
                keeping.result()
            if began.done():
                began.result()
                await asyncio.sleep(_LOOK_EVERY)
            if not self._locks[name].still():
                self._log.error("Worker %s: %r runs in another worker too: its lock in %s had "
                                "been removed; retiring", self._worker, name, self._directory)
                self._leave()
                await asyncio.Event().wait()
