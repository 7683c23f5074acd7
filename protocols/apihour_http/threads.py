"""The threads in which endpoints declared ``blocking=True`` run."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from apihour_http.errors import HTTPError

__all__ = ["Threads"]


class Threads:
    """A pool of `count` threads, made when first needed; `backlog` calls may wait for one."""

    def __init__(self, count: int, backlog: int) -> None:
        self._count = count
        self._most = count + backlog
        self._pool: ThreadPoolExecutor | None = None
        self.waiting = 0  # calls that have not returned

    def wrap(self, function: Any) -> Any:
        """An async endpoint that runs `function` in a thread, with the context of its task."""

        async def call(request: Any) -> Any:
            if self.waiting >= self._most:
                raise HTTPError(503, "too many blocking requests", headers={"Retry-After": "1"})
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._count, "apihour_http")
            self.waiting += 1
            try:
                context = contextvars.copy_context()
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool, context.run, function, request)
            finally:
                self.waiting -= 1

        return call

    def shutdown(self) -> None:
        """End the threads; calls that have not begun are cancelled."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
