"""The pool of one worker: connections made when they are wanted, within a budget of all workers.

Rules:

- A connection has a lease from before it is made until the server has forgotten it.
- Who waits gets one in the order of asking; a connection that becomes free goes to him at once.
- What a worker has beyond its share it gives back when another has less than its own: the unused
  at once, the used when they become free. What lies unused is given to whoever wants more.
- A failure to connect is told once, and tried again later and later, as long as one is wanted.
- While all are in use and none comes back, a further connection tells whether the server lives:
  a query may take its time, a server that greets nobody is down.
- Times are of ``loop.time()``, in seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from apihour.engines.backoff import Backoff
from apihour.engines.budget import Budget
from apihour.engines.driver import Driver
from apihour.engines.pool_options import PoolOptions
from apihour.engines.waiters import Waiters
from apihour.errors import EngineBusyError, EngineDownError
from apihour.shared.leases import Wish

__all__ = ["Pool", "Slot"]

_LOOK = 0.02  # seconds between two looks for a lease, or whether another wants one
_SPARE = 1.0  # seconds unused after which a connection is another's who wants more
_SOONER = 0.9
_CLOSING = 5.0  # seconds that closing a connection may take


class Slot:
    """One connection and its lease."""

    __slots__ = ("connection", "lease", "used")

    def __init__(self, connection: Any, lease: int, used: float) -> None:
        self.connection = connection
        self.lease = lease
        self.used = used


class Pool:
    """Connections of one engine in one worker; `told` hears when it goes down or comes up.

    `explain` makes one line of what a driver raises, without secrets.
    """

    def __init__(
        self, title: str, driver: Driver, budget: Budget, options: PoolOptions,
        explain: Callable[[BaseException], str], told: Callable[[str], None],
    ) -> None:
        self.title = title
        self.driver = driver
        self.budget = budget
        self.options = options
        self.down = ""
        """Why no connection can be made; empty when one could."""
        self.size = self.waiting = self.errors = 0
        self.idle: deque[Slot] = deque()
        self.closing = False
        self._explain = explain
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._waiters: Waiters[Slot] = Waiters(self._loop)
        self._asks_at = 0.0
        self._connecting: set[asyncio.Task[Any] | None] = set()
        self._leaving = 0
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._heard_at = self._loop.time()
        self._grower: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def busy(self) -> int:
        """How many are in use."""
        return self.size - len(self.idle) - len(self._connecting) - self._leaving

    @property
    def is_trying(self) -> bool:
        """Whether a connection is being made, or will be."""
        return bool(self._connecting) or (self._grower is not None and not self._grower.done())

    # -- taken and given back

    async def take(self, wait: float | None = None) -> Slot:
        """A connection; within `wait` seconds, those of the options by default.

        Raises EngineDownError when none can be made, EngineBusyError when all are in use.
        """
        seconds = self.options.wait if wait is None else wait
        ends = self._loop.time() + seconds
        while self.idle:
            slot = self.idle.pop()
            if await self.is_good(slot, ends):
                return slot
            self.drop(slot)
        return await self._wait(seconds, ends)

    async def is_good(self, slot: Slot, ends: float) -> bool:
        """Whether a connection that was not used works still; looks until `ends` at most."""
        now = self._loop.time()
        if not self.driver.is_open(slot.connection):
            return False
        if now - slot.used < self.driver.ping_after:
            return True
        try:
            async with asyncio.timeout_at(min(ends, now + self.options.connect_timeout)):
                await self.driver.ping(slot.connection)
        except asyncio.CancelledError:
            self.drop(slot)
            raise
        except TimeoutError:
            self._failed(ConnectionError("the server does not answer"))
            while self.idle:  # nor will it on the others: each would take as long
                self.drop(self.idle.popleft())
            return False
        except Exception:
            return False
        return True

    async def _wait(self, seconds: float, ends: float) -> Slot:
        waiter = self._waiters.add(ends)
        self.waiting += 1
        self.grow()
        try:
            return await waiter
        except TimeoutError:
            raise self._too_late(seconds) from None
        except BaseException:
            slot = self._waiters.left(waiter)
            if slot is not None:
                self.put(slot)
            raise
        finally:
            self.waiting -= 1

    def _too_late(self, seconds: float) -> Exception:
        self.errors += 1
        if self.down:
            return EngineDownError(f"{self.title}: {self.down}; tried for {seconds:g} s")
        return EngineBusyError(
            f"{self.title}: no connection became free within {seconds:g} s: this worker has "
            f"{self.size}, of {self.options.max} for all, {self.waiting} wait")

    def release(self, slot: Slot) -> None:
        """A connection is used no more, and is as it was."""
        if self.closing or not self.driver.is_open(slot.connection) or self._is_asked():
            self.drop(slot)
        else:
            self.put(slot)

    def _is_asked(self) -> bool:
        """:meth:`_is_needed`, which is a system call, asked now and then."""
        now = self._loop.time()
        if now < self._asks_at:
            return False
        needed = self._is_needed()
        if not needed:
            self._asks_at = now + _LOOK
        return needed

    def _is_needed(self) -> bool:
        """Whether another worker has less than its share, and this one more."""
        return self.budget.is_wished(Wish.SHARE) and (
            self.size - self._leaving > self.budget.share())

    def put(self, slot: Slot) -> None:
        """A connection is free."""
        self._heard_at = self._loop.time()
        if self.down:
            self.succeeded()
        if self._waiters.serve(slot):
            return
        slot.used = self._heard_at
        self.idle.append(slot)

    def drop(self, slot: Slot, at_once: bool = False) -> None:
        """Close a connection, and give its lease back after that."""
        if at_once:
            self.driver.drop(slot.connection)
        self._leaving += 1
        self.spawn(self._close(slot))

    async def _close(self, slot: Slot) -> None:
        try:
            async with asyncio.timeout(_CLOSING):
                await self.driver.disconnect(slot.connection)
        except Exception:  # it is closed here all the same, and the server finds out by itself
            self.errors += 1
        finally:
            self._leaving -= 1
            self.size -= 1
            self.budget.give_back(slot.lease)
            self.grow()

    # -- made

    def grow(self) -> None:
        """Make connections for those who wait, as far as the budget goes."""
        if self._waiters.unserved > 0 and not self.closing and not (
                self._grower is not None and not self._grower.done()):
            self._grower = self.spawn(self._grow())

    async def _grow(self) -> None:
        try:
            while self._waiters.unserved > len(self._connecting) and not self.closing:
                pause = self._retry_at - self._loop.time()
                if pause > 0 or (self.down and self._connecting):
                    await asyncio.sleep(max(pause, _LOOK))
                elif not self.begin_one():
                    has_share = self.size - self._leaving >= max(1, self.budget.share())
                    self.budget.wish(Wish.MORE if has_share else Wish.SHARE)
                    await asyncio.sleep(_LOOK)
        finally:
            if not self.closing:
                self.budget.wish(Wish.NOTHING)

    def begin_one(self) -> bool:
        """Begin to make a connection; False when there is no lease for it."""
        lease = self.budget.take()
        if lease is None:
            return False
        self.size += 1
        task = self.spawn(self._connect(lease))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

    async def _connect(self, lease: int) -> None:
        connection, task = None, asyncio.current_task()
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                connection = await self.driver.connect()
        except Exception as error:
            self._failed(error)
        finally:
            self._connecting.discard(task)
            if connection is None:
                self.size -= 1
                self.budget.give_back(lease)
                self.grow()
        if connection is not None:
            self.succeeded()
            slot = Slot(connection, lease, self._loop.time())
            if self.closing:
                self.drop(slot)
            else:
                self.put(slot)

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        self._retry_at = self._loop.time() + self._backoff.failed()
        if isinstance(error, TimeoutError):
            error = TimeoutError(f"no connection within {self.options.connect_timeout:g} s")
        before, self.down = self.down, self._explain(error)
        if not before:
            self._told(self.down)

    def succeeded(self) -> None:
        """The server answers."""
        self._heard_at = self._loop.time()
        self._backoff.succeeded()
        self._retry_at = 0.0
        if self.down:
            self.down = ""
            self._told("")

    # -- looked after

    def spare(self) -> bool:
        """Give back what others want more; closes at most one connection at a time.

        Returns whether the server has cut one that was not in use.
        """
        was_cut = False
        while self.idle and not self.driver.is_open(self.idle[0].connection):
            self.drop(self.idle.popleft())
            was_cut = True
        if not self.idle:
            return was_cut
        unused = self._loop.time() - self.idle[0].used
        if self._is_needed() or (unused > _SPARE and self._is_wanted()) or (
                unused > self.options.idle and self.size > 1):
            self.drop(self.idle.popleft())
        return was_cut

    def _is_wanted(self) -> bool:
        return self.budget.is_wished(Wish.SHARE) or self.budget.is_wished(Wish.MORE)

    async def check(self) -> None:
        """See whether the server answers, unless a request is finding out just now."""
        now = self._loop.time()
        is_silent = not self.busy or now - self._heard_at > self.options.connect_timeout
        if self.idle:
            await self._check_one(self.idle.popleft())
        elif is_silent and not self.is_trying and now >= self._retry_at:
            has_begun = self.begin_one()
            if not has_begun and self.busy:
                await self._check_beside()

    async def _check_beside(self) -> None:
        """See whether the server greets a connection beside `max`, or refuses it: both are answers.

        It is asked where none of this worker's came back for as long as making one may take.
        """
        silent = self._loop.time() - self._heard_at
        try:
            # Before the driver's own limit, which it tells by an error like that of a refusal.
            async with asyncio.timeout(_SOONER * self.options.connect_timeout):
                connection = await self.driver.connect()
        except OSError:  # TimeoutError is one
            self._failed(ConnectionError(
                f"none of {self.busy} connections in use came back for {silent:.1f} s, and no "
                "further one is answered"))
        except Exception:
            self.succeeded()
        else:
            self.succeeded()
            async with asyncio.timeout(_CLOSING):
                await self.driver.disconnect(connection)

    async def _check_one(self, slot: Slot) -> None:
        try:
            if not self.driver.is_open(slot.connection):
                raise ConnectionError("the server has closed its connections")
            async with asyncio.timeout(self.options.connect_timeout):
                await self.driver.ping(slot.connection)
        except BaseException as error:
            self.drop(slot)
            if not isinstance(error, Exception):
                raise
            self._failed(error)
            while self.idle:  # what has closed that one has closed the others
                self.drop(self.idle.popleft())
        else:
            self.succeeded()
            self.release(slot)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that no request may cut short; closing waits for it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when released."""
        self.closing = True
        for task in (*self._connecting, *((self._grower,) if self._grower is not None else ())):
            task.cancel()
        while self.idle:
            self.drop(self.idle.popleft())
        while self._tasks:
            await asyncio.wait(self._tasks)
