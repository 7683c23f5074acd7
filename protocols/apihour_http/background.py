"""Work that goes on after an answer: who has it done, who waits for it, who hears of its end.

Rules:

- It starts when its request is answered, whatever the answer was, and in its context.
- A server that drains waits for it; what is left when the server stops is cancelled, and named
  in the log.
- What it raises is logged as an endpoint's exception would be; the client knows nothing of it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Coroutine
from typing import Any

__all__ = ["Background"]

# Seconds that cancelled work has to clean up.
_CLEANUP = 1.0


class Background:
    """The work behind the answers of one server."""

    __slots__ = ("_logger", "tasks")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.tasks: set[asyncio.Task[None]] = set()

    def add(self, request: Any, work: Coroutine[Any, Any, Any]) -> None:
        """Have `work` done once `request` is answered.

        Raises TypeError for what is no coroutine.
        """
        if not inspect.iscoroutine(work):
            name = getattr(work, "__name__", "work")
            raise TypeError(f"request.after({ascii(work)[:100]}): expected a coroutine, as "
                            f"calling an async def makes it: request.after({name}(…))")
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # an endpoint in a thread; its loop is not to be touched from here
            request.lane.loop.call_soon_threadsafe(
                self._begin, request, work, context=contextvars.copy_context())
        else:
            self._begin(request, work, asyncio.current_task() in self.tasks)

    def _begin(
        self, request: Any, work: Coroutine[Any, Any, Any], is_answered: bool = False
    ) -> None:
        lane = request.lane
        answering: Any = None
        # A plain function is answered before the next turn; behind an answer its connection may
        # be at another request.
        if not is_answered and not request.endpoint.inline:
            current = lane.answers.current
            answering = current if isinstance(current, asyncio.Task) else asyncio.current_task()
        task = lane.loop.create_task(
            self._run(request, work, answering), name=f"after {request.endpoint.name}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(
        self, request: Any, work: Coroutine[Any, Any, Any], answering: asyncio.Task[Any] | None
    ) -> None:
        name = getattr(work, "__qualname__", "work")
        try:
            if answering is None:
                await asyncio.sleep(0)
            else:
                await asyncio.wait({answering})
            await work
        except asyncio.CancelledError:
            self._logger.warning("%s, the work after %s %s, was cancelled before its end", name,
                                 request.method, ascii(request.path_qs))
            raise
        except Exception as error:
            said = f"{name} failed after {request.method}"
            request.lane.loop.call_exception_handler({
                "message": f"{said} {request.path_qs!a}", "exception": error, "request": said})
        finally:
            work.close()

    async def wait(self) -> None:
        """Return when none is left."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def stop(self) -> None:
        """Cancel what is left."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLEANUP)
