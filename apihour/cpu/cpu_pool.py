"""The processes that :meth:`apihour.Container.run_cpu` computes in.

Rules:

- They are spawned: a fork of a process with threads and an event loop is unsafe.
- They end with their worker, however it ends; who still computes then has no reader.
- One process is one executor, and computes one call at a time: when it dies, only that call
  fails (the executor of the standard library gives up all of its processes with one). Calls
  that wait have not begun, so they are never the ones that fail.
- What is logged there goes where the worker's log goes (:mod:`apihour.cpu.relay`), and so do
  warnings, and exceptions of threads that the computation has started.
- A process that died while it was idle costs nobody a call: the next one starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from apihour.config.failures import FailureLog
from apihour.cpu.relay import RelayReader, relay_records
from apihour.ipc.prctl import PR_SET_PDEATHSIG, prctl
from apihour.ipc.signals import ORDERS, blocked, ignore, let_through
from apihour.ops.private import pool_processes

if TYPE_CHECKING:
    from multiprocessing import Process

__all__ = ["CpuPool"]

T = TypeVar("T")

_LEAVE = 1.0  # seconds idle processes have to leave by themselves, and told ones by SIGTERM


class _Process:
    """One process, started when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._records: RelayReader | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Begin a call in it."""
        with blocked([signal.SIGUSR1]):  # what is started for it begins so; see _begin()
            return self._submit(call)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        if self._executor is not None and not all(one.is_alive() for one in self.processes()):
            self.forget()
        try:
            return self._send(call)
        except BrokenExecutor:  # it died while it was idle: nothing of the call has begun
            self.forget()
            return self._send(call)

    def _send(self, call: Callable[[], T]) -> Future[T]:
        if self._executor is not None:
            return self._executor.submit(call)
        reader, writer = multiprocessing.Pipe(duplex=False)
        with writer:  # the process has its own copy once the first call is submitted
            self._records = RelayReader(reader)
            self._executor = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), _begin,
                (os.getpid(), writer, logging.getLogger().getEffectiveLevel()))
            return self._executor.submit(call)

    def forget(self) -> ProcessPoolExecutor | None:
        """Let go of it: another is started for the next call."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        return executor

    def processes(self) -> list[Process]:
        return pool_processes(self._executor) if self._executor is not None else []

    def end(self) -> None:
        """Wait until it has ended; called in a thread."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        if self._records is not None:
            self._records.join()


class CpuPool:
    """`count` processes, each started on first use."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._processes = [_Process() for _ in range(count)]
        # The one that computed last first: the others need not be started.
        self._idle: asyncio.LifoQueue[_Process] = asyncio.LifoQueue()
        for process in reversed(self._processes):
            self._idle.put_nowait(process)
        self._under_way: set[asyncio.Future[Any]] = set()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call a picklable function in a process of the pool.

        Raises what it raises, and BrokenProcessPool when the process died in this very call.
        """
        process = await self._take()
        loop = asyncio.get_running_loop()
        try:
            future = process.submit(functools.partial(function, *args))
        except BaseException:
            self._idle.put_nowait(process)
            raise
        # A caller that no longer waits leaves the process computing: it is busy until then.
        future.add_done_callback(functools.partial(self._done, loop, process))
        return await self._until_closed(asyncio.wrap_future(future))

    async def _take(self) -> _Process:
        if not self._idle.empty():
            return self._idle.get_nowait()
        waiting = asyncio.ensure_future(self._idle.get())
        try:
            return await self._until_closed(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(self._give_back)
            raise

    def _give_back(self, waiting: asyncio.Future[_Process]) -> None:
        """Its caller was cancelled in the moment in which it got a process."""
        if not waiting.cancelled():
            self._idle.put_nowait(waiting.result())

    async def _until_closed(self, result: asyncio.Future[T]) -> T:
        self._under_way.add(result)
        try:
            return await result
        finally:
            self._under_way.discard(result)

    def _done(
        self, loop: asyncio.AbstractEventLoop, process: _Process, future: Future[Any]
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody calls any more
            loop.call_soon_threadsafe(self._free, process, future)

    def _free(self, process: _Process, future: Future[Any]) -> None:
        if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
            process.forget()
        self._idle.put_nowait(process)

    async def close(self) -> None:
        """Cancel the calls under way, end the processes, wait for them, 3 s at most."""
        for result in self._under_way:
            result.cancel()
        living = [one for process in self._processes for one in process.processes()]
        if not living:
            return
        ending = asyncio.gather(
            *(asyncio.to_thread(process.end) for process in self._processes))
        for end in (None, "terminate", "kill"):
            if end is not None:
                for one in living:
                    getattr(one, end)()
            await asyncio.wait({ending}, timeout=_LEAVE)
            if ending.done():
                ending.result()
                return


def _begin(parent: int, records: Connection, level: int) -> None:
    """In a process of the pool, first of all: end with the worker, leave a Ctrl-C to it."""
    ignore([signal.SIGINT, *ORDERS])
    relay_records(records, level)
    FailureLog("run_cpu", logging.getLogger()).install_in_process()
    let_through([signal.SIGUSR1])
    if not sys.platform.startswith("linux"):
        return
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died while this one started
