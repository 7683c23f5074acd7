"""The processes that :meth:`apihour.Container.run_cpu` computes in.

Rules:

- They are spawned: a fork of a process with threads and an event loop is unsafe.
- They end with their worker, however it ends; who still computes then has no reader.
- A pool one of whose processes died is left to itself, and the next call starts a new one.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import Any, TypeVar

from apihour.prctl import PR_SET_PDEATHSIG, prctl
from apihour.private import pool_processes

__all__ = ["CpuPool"]

T = TypeVar("T")

_LEAVE = 1.0  # seconds idle processes have to leave by themselves, and told ones by SIGTERM


class CpuPool:
    """A pool of `count` processes, started on first use."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._under_way: set[asyncio.Future[Any]] = set()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call a picklable function in the pool. Raises what it raises, BrokenProcessPool."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.count, multiprocessing.get_context("spawn"), _begin, (os.getpid(),))
        pool = self._pool
        loop = asyncio.get_running_loop()
        result = loop.run_in_executor(pool, functools.partial(function, *args))
        self._under_way.add(result)
        try:
            return await result
        except BrokenExecutor:
            if self._pool is pool:
                self._pool = None
            pool.shutdown(wait=False)
            raise
        finally:
            self._under_way.discard(result)

    async def close(self) -> None:
        """Cancel the calls under way, end the processes, wait for them, 3 s at most."""
        for result in self._under_way:
            result.cancel()
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = pool_processes(pool)  # shutdown() forgets them
        ending = asyncio.ensure_future(
            asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True))
        for end in (None, "terminate", "kill"):
            if end is not None:
                for process in processes:
                    getattr(process, end)()
            await asyncio.wait({ending}, timeout=_LEAVE)
            if ending.done():
                return ending.result()


def _begin(parent: int) -> None:
    """In a process of the pool, first of all: end with the worker, leave a Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not sys.platform.startswith("linux"):
        return
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died while this one started
